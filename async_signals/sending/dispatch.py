"""
When a delivery leaves: with the transaction that it belongs to, or at once.

Each delivery registers one ``on_commit`` callback of its own, so that Django decides
whether it lives: a rolled-back savepoint drops its callbacks, ``TestCase`` captures them.
The first callback that a commit calls publishes for all that are still alive, in one
batch.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model

from ..publisher import is_eager
from .before_commit import before_commit, may_wait
from .bundling import bundle
from .coalescing import coalesced
from .outbox import insert, mind_the_gap, store
from .outlet import outlet, publish_and_log, send
from .refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from ..registry import Receiver
    from ..wire.message import Message
    from .coalescing import Part, Subject

__all__ = ["alias_of", "dispatch"]

#: Departures after each so many of which those are looked for that a rollback has dropped.
CROWD = 64


def dispatch(message: Message, alias: str, subject: Subject | None = None) -> None:
    """
    Publish *message* once the transaction on *alias* has committed, if there is one.

    Of those with the same *subject* the commit publishes one.
    """
    connection = connections[alias]
    is_durable = message.stored is not None
    if not message.receiver.options.on_commit or _is_in_autocommit(connection):
        message.seal()
        if is_durable:
            mind_the_gap(message.receiver, alias)
            store([message], alias)
        send([message])
        return
    if is_durable and not connection.in_atomic_block:
        # With autocommit off nobody can tell the commit: the relay sees it.
        store([message.seal()], alias, is_leaving=False)
        return
    before = _last_of_ours(connection)
    departure = _Departure(message, subject, connection, before)
    departure.is_unstored = is_durable and may_wait(connection)
    if not departure.is_unstored:
        message.seal()
        if is_durable:
            store([message], alias)
    leave = departure.leave
    # With autocommit off and no atomic block, this raises: nobody can tell the commit.
    transaction.on_commit(leave, using=alias, robust=not departure.runs_receivers)
    if departure.is_unstored:
        if connection.run_on_commit[-1][1] is leave:
            before_commit(connection, _store_the_living, _forget_the_undone)
        else:  # Somebody has put something else in its place: nobody could tell that it lives.
            departure.store()
    if not departure.runs_receivers:
        _come_first(connection, before)
    _wait(departure, is_first=before is None)


def _store_the_living(connection: BaseDatabaseWrapper) -> None:
    """Store, right before the commit, what Django is going to call the callbacks of."""
    living = [
        departure
        for _, callback, *_ in connection.run_on_commit
        if type(departure := getattr(callback, "__self__", None)) is _Departure
        and departure.is_unstored
    ]
    for departure in living:
        departure.is_unstored = False
        departure.seal()
    living = [departure for departure in living if departure.parts]
    if living:
        bundle(living)
        parts = [part for departure in living for part in departure.parts]
        insert([message for message, _ in parts], connection.alias)


def _forget_the_undone(connection: BaseDatabaseWrapper, since: int) -> None:
    """Let what was sent after a savepoint was made, and undone with it, be forgotten."""
    connection.run_on_commit = [
        each
        for each in connection.run_on_commit
        if type(departure := getattr(each[1], "__self__", None)) is not _Departure
        or not departure.is_unstored
        # The upper bound: a site may let Django count anew.
        or not since <= departure.savepoint_state <= connection.savepoint_state
    ]


def _last_of_ours(connection: BaseDatabaseWrapper) -> _Departure | None:
    """Return the last departure of the open transaction; None: none, or a rollback took it."""
    known = _last.get(connection)
    if known is None:
        return None
    place, reference = known
    callback: Any = reference()
    callbacks = connection.run_on_commit
    if callback is None or place >= len(callbacks) or callbacks[place][1] is not callback:
        return None
    departure: _Departure = callback.__self__  # type: ignore[attr-defined]
    return departure


def _come_first(connection: BaseDatabaseWrapper, before: _Departure | None) -> None:
    """
    Move the last callback of the transaction before those that may prevent it.

    Where one raises that is not robust, Django forgets all that come after it; the event is
    committed all the same. Inside a ``TestCase`` callbacks stay where a test looks for them.
    """
    callbacks: list[Any] = connection.run_on_commit  # The stubs know two of its three columns.
    start, end = 0, len(callbacks) - 1
    if before is not None:  # All up to it were looked at when it came.
        start = _last[connection][0] + 1
    else:
        blocks: list[Any] = connection.atomic_blocks
        if any(block._from_testcase for block in blocks):
            return
    place = end
    if start < end:
        place = next((n for n in range(start, end) if not callbacks[n][-1]), end)
        callbacks.insert(place, callbacks.pop())
    _last[connection] = place, weakref.ref(callbacks[place][1])


def _wait(departure: _Departure, *, is_first: bool) -> None:
    """Let it leave with those that wait; where there was a rollback, some have gone."""
    waiting = _waiting.setdefault(departure.connection, [])
    if is_first and not len(waiting) % CROWD:
        waiting[:] = [each for each in waiting if each() is not None]
    waiting.append(weakref.ref(departure))


def _those_who_wait(references: list[weakref.ref[_Departure]]) -> list[_Departure]:
    return [departure for each in references if (departure := each()) is not None]


def _is_in_autocommit(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether there is no transaction to wait for.

    ``on_commit`` would ask the database, which a coroutine may not, and which would fail an
    event that has nothing to do with the database while the database is down.
    """
    if connection.in_atomic_block:
        return False
    if connection.connection is None:
        return bool(connection.settings_dict["AUTOCOMMIT"])
    return bool(connection.autocommit)


def alias_of(receiver: Receiver, named: Mapping[str, object]) -> str:
    """
    Return the alias whose commit an event waits for.

    It is the receiver's ``using``; else the signal's own, else that of the instance that it
    carries, else the default.
    """
    if receiver.options.using is not None:
        return receiver.options.using
    using = named.get("using")
    if isinstance(using, str) and using in connections:
        return using
    # What is excluded is not looked at: a lazy object among it would be made for nothing.
    sent = (value for name, value in named.items() if name not in receiver.options.exclude)
    for value in (named.get("instance"), *sent):
        if isinstance(value, Model) and value._state.db is not None:
            return value._state.db
    return DEFAULT_DB_ALIAS


class _Departure:
    """One message that waits for its transaction."""

    __slots__ = (
        *("__weakref__", "connection", "is_unstored", "parts"),
        *("runs_receivers", "savepoint_state", "subject"),
    )

    def __init__(
        self,
        message: Message,
        subject: Subject | None,
        connection: BaseDatabaseWrapper,
        before: _Departure | None,
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
        #: The message, behind those that it stands for; none once it has left.
        self.parts: list[Part] = [(message, subject)]

    def store(self) -> None:
        """Store it now; nothing leaves where that raises."""
        [(message, _)] = parts = self.parts
        self.is_unstored, self.parts = False, []
        store([message.seal()], self.connection.alias)
        self.parts = parts

    def seal(self) -> None:
        """Seal what was sent; record that it cannot be, where it cannot."""
        [(message, _)] = self.parts
        try:
            message.seal()
        except Exception as exc:  # noqa: BLE001  (as where it is sent: its sender sees nothing)
            self.parts = []
            [envelope] = message.envelopes
            nothing = dataclasses.replace(envelope, sender=None, kwargs={})
            refuse(message.receiver, nothing, exc, self.connection.alias)

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


#: The departures of each open transaction, in their order. Only Django's list of callbacks
#: keeps one alive: what a rollback drops there is gone here.
_waiting: weakref.WeakKeyDictionary[BaseDatabaseWrapper, list[weakref.ref[_Departure]]] = (
    weakref.WeakKeyDictionary()
)
#: The place of the last callback of ours, before which none may prevent it, and that one: weakly,
#: as what a rollback drops must be gone.
_last: weakref.WeakKeyDictionary[BaseDatabaseWrapper, tuple[int, weakref.ref[Any]]] = (
    weakref.WeakKeyDictionary()
)
