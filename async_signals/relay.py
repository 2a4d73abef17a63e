"""
Publish what waits in the ledger when its time has come.

Any number of relays may run, in workers and by themselves: rows are taken with locks that the
others pass by, and what is published twice is claimed once. A relay that hangs holds nothing, and
each database has a thread of its own, so that one which falls silent does not stop the others.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections

from . import registry
from .announcing import announce, is_heard
from .conf import get_settings
from .delivery import at_work
from .exceptions import ReceiverNotFoundError
from .forks import unforked
from .ledger import alias, aliases, due, elsewhere, has_tables, pruning, spool
from .ledger.causes import told_of
from .ledger.deaths import take_dead_claims
from .ledger.pausing import paused
from .publisher import publish, seconds_apart, shared_out
from .results import tell_deaths
from .signals import delivery_published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .wire.envelope import Reference
    from .wire.message import Message

__all__ = ["Relay", "follow", "run"]

logger = logging.getLogger("async_signals")

#: Deliveries that are taken and published together: at first, so that relays share what there
#: is, and where there is more and more.
BATCH, LARGEST_BATCH = 100, 1_000
#: Seconds between two tries to reach a broker, or a database, that is down; at first, at most.
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
#: Seconds between two looks at a database where something is due soon.
SHORTEST_PAUSE = 0.1
#: Seconds between two looks for what is old enough to be forgotten.
PRUNE_EVERY = 300.0
#: Seconds that the threads of other databases are waited for at the end.
PATIENCE = 5.0
#: Batches of it that are deleted before the relay looks again for what is to be published.
PRUNE_BATCHES = 4


def run(stop: threading.Event, *, once: bool = False) -> Relay:
    """
    Relay until *stop* is set, and return the relay, which says what it has done.

    Args:
        stop: Ends it after the batch at hand.
        once: End when nothing is due.
    """
    relay = Relay()
    relay.run(stop, once=once)
    return relay


def follow(key: str, using: str) -> None:
    """Publish the delivery whose turn it is now; where that fails, a relay does it."""
    receivers = registry.known(without=paused())
    ready = due.take_next(key, using, receivers=receivers)
    if ready:
        Relay().publish(ready, using)


def _messages(ready: list[due.Due]) -> list[Message]:
    """Return the messages for what was taken; several deliveries in one where there are many."""
    firsts: dict[str, list[Reference]] = {}
    messages = []
    for each in ready:
        # Alone: it has failed, its worker has died over it, or there is much to do for it.
        if each.reference.epoch or each.is_bundle:
            messages += _addressed(each.reference.receiver, [each.reference])
        else:
            firsts.setdefault(each.reference.receiver, []).append(each.reference)
    for name, references in firsts.items():
        messages += _addressed(name, references)
    return messages


def _addressed(name: str, references: list[Reference]) -> list[Message]:
    try:
        return shared_out(registry.get(name), references)
    except ReceiverNotFoundError:  # Its function has died since.
        return []


def _announce(published: list[due.Due], using: str) -> None:
    """Say what was published, with what has caused it; where nobody listens, nothing is read."""
    receivers = {each.reference.receiver for each in published}
    heard = {name for name in receivers if is_heard(delivery_published, name)}
    attempts = {
        each.reference.id: each.reference.epoch + 1
        for each in published
        if each.reference.receiver in heard and not each.is_bundle
    }
    if attempts:
        for delivery in told_of(attempts, using):
            announce(delivery_published, delivery)


class Rests:
    """What has failed is left alone for a while: for longer, each time that it fails again."""

    def __init__(self) -> None:
        self._rests: dict[str, tuple[float, float]] = {}  #: Seconds, and the end, by name.

    def begin(self, name: str) -> float:
        """Leave *name* alone, which has failed; return for how many seconds."""
        last, _ = self._rests.get(name, (0.0, 0.0))
        wait = min(LONGEST_WAIT, last * 2 or FIRST_WAIT)
        self._rests[name] = wait, time.monotonic() + wait
        return wait

    def end(self, name: str) -> None:
        """Begin anew for *name*, which is well."""
        self._rests.pop(name, None)

    def without(self, names: Iterable[str]) -> list[str]:
        """Return those of *names* that are not to be left alone now."""
        now = time.monotonic()
        return [name for name in names if name not in self._rests or self._rests[name][1] <= now]


class Relay:
    """
    One relay: what it has done, and how long it has to wait.

    Args:
        only: Alias of the database that it serves; None: all, and the spool.
    """

    def __init__(self, only: str | None = None) -> None:
        self._only = only
        self._is_parted = False  #: All databases but the first have threads of their own.
        #: Those of other databases, each in a thread of its own, by alias.
        self._others: dict[str, tuple[Relay, threading.Thread]] = {}
        self.published = 0  #: Deliveries, in all.
        self.refused = 0  #: Times that the broker did not take one.
        self.pause = 0.0  #: Seconds to wait where nothing is due.
        self._next_prune = time.monotonic() + PRUNE_EVERY * random.random()  # noqa: S311
        self._busy = 0  #: Ticks, up to now, after which there was more to do.
        self._broken = Rests()  #: Databases, by alias.
        self._refused = Rests()  #: Receivers of whose deliveries the broker took none.
        #: Receivers whose retries filled the last batch and had to wait, by alias: the next one is
        #: for all others, however fast new retries are let through.
        self._throttled: dict[str, frozenset[str]] = {}
        self._pruning: dict[str, Iterator[int]] = {}  #: What is left of it from before, by alias.
        self._told: set[tuple[str, type[Exception]]] = set()  #: Errors since it was last well.

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Do what is due until *stop* is set, or *once*; each database in a thread of its own."""
        token = at_work.set(True)
        self._is_parted = not once and self._only is None
        while not stop.is_set():
            if self._is_parted:
                self._part(stop)
            with unforked():
                busy = self.tick()
            if once and not busy:
                break
            if not busy:
                stop.wait(self.pause)
        connections.close_all()  # Of this thread.
        at_work.reset(token)
        self._join()

    def _part(self, stop: threading.Event) -> None:
        """Let other threads serve all databases but the first, and ask them for their tables."""
        for using in self._find(elsewhere, "find the other ledgers"):
            known = self._others.get(using)
            if known is not None and known[1].is_alive():
                continue
            other = Relay(only=using) if known is None else known[0]
            what = f"start a thread for {using!r}"
            name = f"async_signals-relay-{using}"
            thread = threading.Thread(target=other.run, args=(stop,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:  # There are as many as the system lets this process have.
                self._tell(what, exc)
                continue
            self._forget(what)
            self._others[using] = other, thread

    def _join(self) -> None:
        """Wait for the other threads to finish their batches, and count what they have done."""
        deadline = time.monotonic() + PATIENCE
        for other, thread in self._others.values():
            thread.join(max(0.0, deadline - time.monotonic()))
            self.published += other.published
            self.refused += other.refused

    def tick(self) -> bool:
        """
        Do what is due now, at most one batch of each database; return whether there may be more.

        Whatever goes wrong, it is logged, and a later tick tries again.
        """
        # Not all relays at the same moment.
        self.pause = get_settings().relay_interval * random.uniform(0.8, 1.2)  # noqa: S311
        busy = self._only is None and self._drain() >= BATCH
        for using in self._served():
            busy |= self._try(using)
        self._busy = self._busy + 1 if busy else 0
        if not busy:
            with contextlib.suppress(Exception):
                for connection in connections.all(initialized_only=True):
                    connection.close_if_unusable_or_obsolete()
        return busy

    @property
    def is_well(self) -> bool:
        """Whether the broker took everything, and what it could not use before can be used now."""
        return not self.refused and not self._told

    @property
    def _batch(self) -> int:
        """How many deliveries are taken together now: more, the longer there are more."""
        return min(LARGEST_BATCH, BATCH << min(10, max(0, self._busy - 1)))

    def _served(self) -> list[str]:
        """Return the aliases to look at now: one that failed is left alone for a while."""
        return self._broken.without(self._find(self._own, "find the ledgers"))

    def _own(self) -> list[str]:
        if self._only is not None:
            return [self._only] if has_tables(self._only) else []
        return [alias()] if self._is_parted else aliases()

    def _find(self, find: Callable[[], list[str]], what: str) -> list[str]:
        """Return what *find* does; nothing where it raises."""
        try:
            found = find()
        except Exception as exc:  # noqa: BLE001  (a relay that died would be missed by nobody)
            self._tell(what, exc)
            return []
        self._forget(what)
        return found

    def _try(self, using: str) -> bool:
        what = f"use the ledger on {using!r}"
        try:
            busy = self._tick(using)
        except Exception as exc:  # noqa: BLE001  (as above)
            self._tell(what, exc)
            self._pruning.pop(using, None)
            with contextlib.suppress(Exception):
                connections[using].close()
            self._broken.begin(using)
            return False
        self._broken.end(using)
        self._forget(what)
        return busy

    def _tick(self, using: str) -> bool:
        deaths = take_dead_claims(using, limit=BATCH)
        tell_deaths(deaths)  # They are committed: nobody else tells them.
        receivers = self._refused.without(registry.known(without=paused()))
        ready, died, more = due.take_due(
            using,
            receivers=receivers,
            limit=self._batch,
            without=self._throttled.pop(using, ()),
            spacing=seconds_apart,
        )
        tell_deaths(died)
        if more:
            self._throttled[using] = more
        if ready:
            self.publish(ready, using)
        busy = self._prune(using) or more is not None or len(deaths) == BATCH
        if not busy:
            floor = SHORTEST_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311
            self.pause = max(floor, due.seconds_to_next(using, within=self.pause))
        return busy

    def _drain(self) -> int:
        """Empty the spool, as far as it can be; nothing else waits for it."""
        try:
            moved = spool.drain(limit=BATCH)
        except Exception as exc:  # noqa: BLE001  (as above)
            self._tell("empty the spool", exc)
            return 0
        self._forget("empty the spool")
        return moved

    def _prune(self, using: str) -> bool:
        """Delete some of what is old enough; return whether there may be more."""
        if time.monotonic() > self._next_prune:
            self._pruning = {each: pruning.prune(each) for each in self._served()}
            self._next_prune = time.monotonic() + PRUNE_EVERY
        if using not in self._pruning:
            return False
        some = list(itertools.islice(self._pruning[using], PRUNE_BATCHES))
        if len(some) < PRUNE_BATCHES:
            del self._pruning[using]
        return len(some) == PRUNE_BATCHES

    def _tell(self, what: str, exc: Exception) -> None:
        if (what, type(exc)) in self._told:
            return  # Once, not at every try.
        self._told.add((what, type(exc)))
        is_usual = isinstance(exc, (DatabaseError, InterfaceError, OSError))
        logger.log(
            logging.WARNING if is_usual else logging.ERROR,
            "The relay cannot %s, and tries again: %s",
            what,
            exc,
            exc_info=None if is_usual else exc,
        )

    def _forget(self, what: str) -> None:
        self._told = {told for told in self._told if told[0] != what}

    def publish(self, ready: list[due.Due], using: str) -> None:
        """Publish what was taken; what the broker did not take is due again in a while."""
        messages = _messages(ready)
        refused = publish(messages)
        lost = {each.id for message, _ in refused for each in message.deliveries}
        sent = {each.id for message in messages for each in message.deliveries} - lost
        self.published += len(sent)
        self.refused += len(lost)
        by_receiver: dict[str, list[str]] = {}
        for each in ready:
            by_receiver.setdefault(each.reference.receiver, []).append(each.reference.id)
        for name, ids in by_receiver.items():
            self._settle(name, [id for id in ids if id in lost], len(ids), using)  # noqa: A001
        if refused:
            logger.warning(
                "The broker did not take %d of %d deliveries from the relay: %s. They stay in the "
                "ledger.",
                len(lost),
                len(lost) + len(sent),
                refused[0][1],
            )
        _announce([each for each in ready if each.reference.id in sent], using)

    def _settle(self, receiver: str, lost: list[str], number: int, using: str) -> None:
        """Give back what the broker did not take of the *number* deliveries for *receiver*."""
        wait = FIRST_WAIT
        if len(lost) == number:
            # Perhaps it is down; perhaps it refuses this one's queue, and the others go on.
            wait = self._refused.begin(receiver)
        else:
            self._refused.end(receiver)
        if lost:
            due.give_back(lost, using, wait=wait)
