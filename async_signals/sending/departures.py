"""
What waits for a transaction, each with a place in Django's own list of ``on_commit`` callbacks.

So Django decides whether it lives: a rolled-back savepoint drops its callbacks, ``TestCase``
captures them. The first callback that a commit calls lets all leave that are still alive, in one
batch.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

from ..callbacks import callback_at, last_of_ours, move_forward
from ..exceptions import MessageTooLargeError
from ..publisher import is_eager
from .before_commit import end_of
from .bundling import FEW, are_many, bundle, seal_together
from .coalescing import coalesced
from .outbox import store
from .outlet import outlet, publish_and_log, send
from .refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    from ..wire.message import Message
    from .coalescing import Part, Subject

__all__ = [
    "Departure",
    "come_first",
    "forget",
    "gathered",
    "last_departure",
    "living",
    "that_takes_more",
    "wait",
]

#: Departures after each so many of which those are looked for that a rollback has dropped.
CROWD = 64


class Departure:
    """One message that waits for its transaction, or all that a rollback can only undo together."""

    __slots__ = (
        *("__weakref__", "_full", "connection", "is_unstored", "parts"),
        *("runs_receivers", "savepoint_state", "subject"),
    )

    def __init__(
        self,
        message: Message,
        subject: Subject | None,
        connection: BaseDatabaseWrapper,
        before: Departure | None,
    ) -> None:
        self.subject = subject
        self.connection = connection
        self.savepoint_state = connection.savepoint_state
        self.is_unstored = False  #: It is to be stored right before the commit.
        #: Receivers run where they are published, in a test, which is to see their errors.
        # Celery takes its time to say so: what holds for another one of this transaction holds.
        self.runs_receivers: bool = (
            before.runs_receivers
            if before is not None
            else outlet.get() is not publish_and_log or is_eager()
        )
        #: The messages, each behind those that it stands for; none once they have left.
        self.parts: list[Part] = [(message, subject)]
        self._full = FEW  #: Beyond so many, those that can be are written as one.

    def take(self, message: Message) -> None:
        """Let *message* leave with it."""
        if len(self.parts) > self._full:
            # Now, while few objects are alive that Python's collector has to look at.
            self.gather()
            self._full = FEW + 2 * len(self.parts)
        self.parts.append((message, None))

    def gather(self) -> None:
        """Write what was sent, many as one; what cannot be written is tried again by ``seal()``."""
        with contextlib.suppress(Exception):
            self.parts = seal_together(self.parts)
            for message, _ in self.parts:
                with contextlib.suppress(MessageTooLargeError):
                    message.seal()
            self.parts = bundle(self.parts)  # Of those that are sealed: they keep their order.

    def seal(self) -> None:
        """Seal what was sent; record what cannot be."""
        alias = self.connection.alias
        self.parts = [part for part in self.parts if _is_sealed(part[0], alias)]

    def store(self) -> None:
        """Store it now; nothing leaves where that raises."""
        parts = self.parts
        self.is_unstored, self.parts = False, []
        if parts:
            store([message.seal() for message, _ in parts], self.connection.alias)
        self.parts = parts

    def leave(self) -> None:
        """Leave, on a real commit together with all whose callbacks are going to be called."""
        connection = self.connection
        if not self.parts:
            return
        together = [self]
        if not connection.in_atomic_block:
            waiting = _those_who_wait(_waiting.pop(connection, []))
            together = waiting if self in waiting else [self]
        elif self._passes_on(connection):  # In one still: a test runs captured callbacks.
            return
        if self.is_unstored:  # A test runs the callbacks of an open transaction.
            self.seal()
            self.store()
        # What is not stored now was rolled back, and something has kept it, as a traceback does.
        together = [departure for departure in together if not departure.is_unstored]
        parts = [part for departure in together for part in departure.parts]
        for departure in together:
            departure.parts = []
        send(coalesced(parts))

    def _passes_on(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether a later one, whose callback the test runs next, leaves in its place, too."""
        if self.subject is None:
            return False
        waiting = _those_who_wait(_waiting.get(connection, []))
        for later in waiting[waiting.index(self) + 1 :] if self in waiting else ():
            if later.parts and later.subject and later.subject.key == self.subject.key:
                later.parts, self.parts = self.parts + later.parts, []
                return True
        return False


def _is_sealed(message: Message, alias: str) -> bool:
    # Not a method: who keeps the error keeps what is named here, and a departure must be gone
    # when its transaction is.
    try:
        message.seal()
    except Exception as exc:  # noqa: BLE001  (as where it is sent: its sender sees nothing)
        [envelope] = message.envelopes
        nothing = envelope._replace(sender=None, kwargs={})
        refuse(message.receiver, nothing, exc, alias)
        return False
    return True


def living(connection: BaseDatabaseWrapper) -> list[Departure]:
    """Return those that are to be stored, and whose callbacks Django is going to call."""
    return [
        departure
        for _, callback, *_ in connection.run_on_commit
        if type(departure := getattr(callback, "__self__", None)) is Departure
        and departure.is_unstored
    ]


def gathered(departures: Sequence[Departure]) -> list[Message]:
    """Return what is stored now for all of *departures*; many may leave as one."""
    for departure in departures:
        departure.is_unstored = False  # What is sent from here on, as by a log, does not join it.
    all_parts = [part for departure in departures for part in departure.parts]
    if are_many(all_parts) and not departures[0].runs_receivers:
        for departure in departures:
            departure.parts = []
        departures[0].parts = all_parts
        departures[0].gather()
    for departure in departures:
        departure.seal()
    return [message for departure in departures for message, _ in departure.parts]


def forget(connection: BaseDatabaseWrapper, since: int) -> None:
    """Let what was sent after a savepoint was made, and undone with it, be forgotten."""
    connection.run_on_commit = [
        each
        for each in connection.run_on_commit
        if type(departure := getattr(each[1], "__self__", None)) is not Departure
        or not departure.is_unstored
        or departure.savepoint_state < since
    ]


def last_departure(connection: BaseDatabaseWrapper) -> Departure | None:
    """Return the last one of the open transaction; None: none, or a rollback took it."""
    departure = getattr(last_of_ours(connection), "__self__", None)
    return departure if type(departure) is Departure else None


def that_takes_more(connection: BaseDatabaseWrapper) -> Departure | None:
    """Return the departure with which what is to be stored at the commit, too, shares its fate."""
    end = end_of(connection)
    if end is None or end.place is None:
        return None
    callback = callback_at(end.place, connection)
    if callback is None:
        return None
    departure: Departure = callback.__self__  # type: ignore[attr-defined]
    # No savepoint was made since: what undoes one of the two undoes the other.
    is_it = departure.is_unstored and departure.savepoint_state == connection.savepoint_state
    return departure if is_it else None


def come_first(departure: Departure, leave: Callable[[], None]) -> None:
    """Move *leave*, its callback, before those that may prevent it."""
    place = move_forward(departure.connection, leave)
    if departure.is_unstored and (end := end_of(departure.connection)) is not None:
        end.place = place


def wait(departure: Departure, *, is_first: bool) -> None:
    """Let it leave with those that wait; where there was a rollback, some have gone."""
    waiting = _waiting.setdefault(departure.connection, [])
    if is_first and not len(waiting) % CROWD:
        waiting[:] = [each for each in waiting if each() is not None]
    waiting.append(weakref.ref(departure))


def _those_who_wait(references: list[weakref.ref[Departure]]) -> list[Departure]:
    return [departure for each in references if (departure := each()) is not None]


#: The departures of each open transaction, in their order. Only Django's list of callbacks
#: keeps one alive: what a rollback drops there is gone here.
_waiting: weakref.WeakKeyDictionary[BaseDatabaseWrapper, list[weakref.ref[Departure]]] = (
    weakref.WeakKeyDictionary()
)
