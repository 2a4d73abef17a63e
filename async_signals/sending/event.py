"""
Which calls of receivers belong to one ``send()``.

Django calls each receiver by itself and says nothing about the call of ``send()`` behind
it. Calls that carry the very same objects, each to another connection, are one event; the
next call to a connection that was called already is the next event. So is each call to one that
has its audience alone.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from ..ids import new_id
from ..wire.envelope import Envelope, as_sent
from ..wire.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..delivery import Delivery
    from ..registry import Receiver
    from ..wire.envelope import Reference
    from .audience import Audience

__all__ = ["Draft", "Event", "current_event", "ids_if_shared"]

#: Events remembered in a thread, at least: as deep as receivers may send within receivers and
#: still be told apart.
MEMORY = 16


@dataclasses.dataclass(slots=True)
class Event:
    """One call of ``send()``; what takes long is made where it is written, not where it is sent."""

    sent: int  #: Microseconds since 1970.
    seen: tuple[int, ...]  #: Identities of the connections that were called for it.
    is_over: bool = False  #: Nobody else can be called for it: it is forgotten.
    _id: str = ""

    @property
    def id(self) -> str:
        """Its id."""
        if not self._id:
            self._id = new_id()
        return self._id


def ids_if_shared(events: Iterable[Event]) -> list[str]:
    """Return their ids; ``""`` where one receiver has it alone, and nobody has asked for it yet."""
    return [each._id if each.is_over and len(each.seen) == 1 else each.id for each in events]


class _Memory(threading.local):
    """
    The latest events of a thread, by the identities of what they carry.

    Identities only, so that nothing is kept alive; should an address be used again, the
    worst that happens is that two events share an id.
    """

    def __init__(self) -> None:
        self.recent: dict[tuple[int, ...], Event] = {}  #: MEMORY of them at most.
        self.earlier: dict[tuple[int, ...], Event] = {}  #: The MEMORY before these.

    def renew(self) -> dict[tuple[int, ...], Event]:
        """Forget the earlier ones; return what remembers the next."""
        for event in self.earlier.values():
            event.is_over = True
        self.earlier, self.recent = self.recent, {}
        return self.recent


_memory = _Memory()


class Member(Protocol):
    """The sender's end of a receiver, as far as events know it."""

    audience: Audience


def current_event(
    signal: object, sender: object, named: Mapping[str, object], connection: Member
) -> Event:
    """Return the event that *connection* is being called for."""
    if connection.audience.is_one:
        return Event(time.time_ns() // 1_000, (id(connection),), is_over=True)
    key = (id(signal), id(sender), *map(id, named.values()))
    recent = _memory.recent
    event = recent.get(key) or _memory.earlier.get(key)
    if event is not None:
        if id(connection) not in event.seen:
            event.seen += (id(connection),)
            return event
        event.is_over = True  # The next one takes its place here.
    if len(recent) == MEMORY:
        recent = _memory.renew()
    event = recent[key] = Event(time.time_ns() // 1_000, (id(connection),))
    return event


class Draft(Message):
    """The message of one delivery that is not written yet, as its event may be undone."""

    __slots__ = ("cause", "event", "kwargs", "sender")

    def __init__(  # All of it here: there is one for each event, and a call takes long.
        self,
        event: Event,
        receiver: Receiver,
        signal: str | None,
        sender: Any,
        kwargs: dict[str, Any],
        cause: Delivery | None,
        stored: str | None = None,
    ) -> None:
        self.event = event
        self.receiver = receiver
        self.signal = signal  #: Its path.
        self.sender = sender  #: As JSON.
        self.kwargs = kwargs  #: Each as JSON.
        self.cause = cause
        self.stored = stored
        self.order = self.unique = None
        self.size, self.length = 1, 0
        self._deliveries = ()
        self.sealed = ""

    @property
    def deliveries(self) -> tuple[Envelope, ...] | tuple[Reference, ...]:
        """Its envelope, made when somebody asks for it."""
        if not self._deliveries:
            self._deliveries = (self._envelope(),)
        return self._deliveries

    def _envelope(self) -> Envelope:
        event, cause = self.event, self.cause
        return Envelope(
            id=new_id(),
            event_id=event.id,
            receiver=self.receiver.name,
            signal=self.signal,
            sent=as_sent(event.sent),
            sender=self.sender,
            kwargs=self.kwargs,
            payload_version=self.receiver.options.payload_version,
            cause=cause.id if cause is not None else None,
            chain=(*cause.chain, cause.receiver) if cause is not None else (),
        )
