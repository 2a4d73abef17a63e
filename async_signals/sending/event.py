"""
Which calls of receivers belong to one ``send()``.

Django calls each receiver by itself and says nothing about the call of ``send()`` behind
it. Calls that carry the very same objects, each to another connection, are one event; the
next call to a connection that was called already is the next event.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..ids import new_id
from ..wire.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..delivery import Delivery
    from ..registry import Receiver

__all__ = ["Draft", "Event", "current_event"]

#: Events remembered in a thread, at least: as deep as receivers may send within receivers and
#: still be told apart.
MEMORY = 16


@dataclasses.dataclass(slots=True)
class Event:
    """One call of ``send()``; what takes long is made where it is written, not where it is sent."""

    _sent: float  #: Seconds since 1970.
    seen: tuple[int, ...]  #: Identities of the connections that were called for it.
    is_over: bool = False  #: Nobody else can be called for it: it is forgotten.
    _id: str = ""

    @property
    def id(self) -> str:
        """Its id."""
        if not self._id:
            self._id = new_id()
        return self._id

    @property
    def id_if_shared(self) -> str:
        """Its id; ``""`` where one receiver has it alone, and nobody has asked for it yet."""
        return self._id if self.is_over and len(self.seen) == 1 else self.id

    @property
    def sent(self) -> str:
        """When it was sent, as an envelope says it."""
        seconds, microseconds = divmod(round(self._sent * 1_000_000), 1_000_000)
        return f"{_second(seconds)}.{microseconds:06d}+00:00"


@functools.lru_cache(maxsize=16)  # Many events are of one second, and this takes long.
def _second(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


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


def current_event(
    signal: object, sender: object, named: Mapping[str, object], connection: object
) -> Event:
    """Return the event that *connection* is being called for."""
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
    event = recent[key] = Event(time.time(), (id(connection),))
    return event


class Draft(NamedTuple):
    """A delivery of an event to one receiver that is not written yet, as it may be undone."""

    event: Event
    receiver: Receiver
    signal: str | None  #: Its path.
    sender: Any  #: As JSON.
    kwargs: dict[str, Any]  #: Each as JSON.
    cause: Delivery | None

    def envelope(self, *, is_in_bundle: bool = False) -> Envelope:
        """Return it as it travels; in a bundle without ids that nobody can know of."""
        event, cause = self.event, self.cause
        return Envelope(
            id="" if is_in_bundle else new_id(),
            event_id=event.id_if_shared if is_in_bundle else event.id,
            receiver=self.receiver.name,
            signal=self.signal,
            sent=event.sent,
            sender=self.sender,
            kwargs=self.kwargs,
            payload_version=self.receiver.options.payload_version,
            cause=cause.id if cause is not None else None,
            chain=(*cause.chain, cause.receiver) if cause is not None else (),
        )
