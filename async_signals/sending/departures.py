"""
What waits for a transaction, each with a place in Django's own list of ``on_commit`` callbacks.

So Django decides whether it lives: a rolled-back savepoint drops its callbacks, ``TestCase``
captures them. The first callback that a commit calls lets all leave that are still alive, in one
batch.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from ..exceptions import MessageTooLargeError
from ..publisher import is_eager
from .bundling import FEW, bundle, seal_together
from .callbacks import move_forward
from .coalescing import coalesced
from .outbox import store
from .outlet import outlet, publish_and_log, send
from .refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    from ..wire.message import Message
    from .coalescing import Part, Subject

__all__ = [
    "Departure",
    "come_first",
    "forget",
    "gathered",
    "last_of_ours",
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
        self._full = FEW  #: So many parts are worth a look whether some can be one.

    def take(self, message: Message) -> None:
        """Let *message* leave with it."""
        if len(self.parts) > self._full:
            # Now, while few objects are alive that Python's collector has to look at.
            with contextlib.suppress(Exception):  # It is tried again, and told, at the commit.
                self._gather()
            self._full = FEW + 2 * len(self.parts)
        self.parts.append((message, None))

    def _gather(self) -> None:
        self.parts = seal_together(self.parts)
        for message, _ in self.parts:
            with contextlib.suppress(MessageTooLargeError):
                message.seal()

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
        departure.is_unstored = False
        departure.seal()
    parts = [part for departure in departures for part in departure.parts]
    if parts and not departures[0].runs_receivers:
        bundled = bundle(parts)
        if len(bundled) < len(parts):
            for departure in departures:
                departure.parts = []
            departures[0].parts = parts = bundled
    return [message for message, _ in parts]


def forget(connection: BaseDatabaseWrapper, since: int) -> None:
    """Let what was sent after a savepoint was made, and undone with it, be forgotten."""
    connection.run_on_commit = [
        each
        for each in connection.run_on_commit
        if type(departure := getattr(each[1], "__self__", None)) is not Departure
        or not departure.is_unstored
        # The upper bound: a site may let Django count anew.
        or not since <= departure.savepoint_state <= connection.savepoint_state
    ]


def last_of_ours(connection: BaseDatabaseWrapper) -> Departure | None:
    """Return the last departure of the open transaction; None: none, or a rollback took it."""
    return _still_there(_last.get(connection), connection)


def that_takes_more(connection: BaseDatabaseWrapper) -> Departure | None:
    """Return the departure with which what is to be stored at the commit, too, shares its fate."""
    departure = _still_there(_unstored.get(connection), connection)
    is_it = (
        departure is not None
        and departure.is_unstored
        # No savepoint was made since: what undoes one of the two undoes the other.
        and departure.savepoint_state == connection.savepoint_state
    )
    return departure if is_it else None


def _still_there(known: _Place | None, connection: BaseDatabaseWrapper) -> Departure | None:
    if known is None:
        return None
    place, reference = known
    callback: Any = reference()
    callbacks = connection.run_on_commit
    if callback is None or place >= len(callbacks) or callbacks[place][1] is not callback:
        return None
    departure = getattr(callback, "__self__", None)
    return departure if type(departure) is Departure else None  # Somebody may have wrapped it.


def come_first(departure: Departure, before: Departure | None) -> None:
    """Move its callback, the last of the transaction, before those that may prevent it."""
    connection = departure.connection
    # All up to the one before were looked at when that came; later ones come behind it.
    place = move_forward(connection, 0 if before is None else _last[connection][0] + 1)
    if place is None:
        return
    callbacks: list[Any] = connection.run_on_commit  # The stubs know two of its three columns.
    _last[connection] = place, weakref.ref(callbacks[place][1])
    if departure.is_unstored:
        _unstored[connection] = _last[connection]


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
#: A place in Django's list, and the callback there: weakly, as what a rollback drops must be gone.
_Place: TypeAlias = tuple[int, "weakref.ref[Any]"]
#: That of the last callback of ours, before which none may prevent it.
_last: weakref.WeakKeyDictionary[BaseDatabaseWrapper, _Place] = weakref.WeakKeyDictionary()
#: That of the last one that is to be stored at the commit.
_unstored: weakref.WeakKeyDictionary[BaseDatabaseWrapper, _Place] = weakref.WeakKeyDictionary()
