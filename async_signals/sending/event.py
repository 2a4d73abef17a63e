"""
Which calls of receivers belong to one ``send()``.

Django calls each receiver by itself and says nothing about the call of ``send()`` behind
it. Calls that carry the very same objects, each to another connection, are one event; the
next call to a connection that was called already is the next event.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

from ..ids import new_id
from ..wire.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..delivery import Delivery
    from ..registry import Receiver

__all__ = ["Event", "current_event", "envelope_of"]

#: Events remembered in a thread: as deep as receivers may send within receivers and still
#: be told apart.
MEMORY = 16


@dataclasses.dataclass(slots=True)
class Event:
    """One call of ``send()``."""

    sent_at: dt.datetime
    seen: set[int]  #: Identities of the connections that were called for it.
    _id: str = ""

    @property
    def id(self) -> str:
        """Its id, made when somebody asks: between two saves that costs four times as much."""
        if not self._id:
            self._id = new_id()
        return self._id


class _Memory(threading.local):
    """
    The latest events of a thread, by the identities of what they carry.

    Identities only, so that nothing is kept alive; should an address be used again, the
    worst that happens is that two events share an id.
    """

    def __init__(self) -> None:
        self.events: dict[tuple[int, ...], Event] = {}  #: In their order.


_memory = _Memory()


def current_event(
    signal: object, sender: object, named: Mapping[str, object], connection: object
) -> Event:
    """Return the event that *connection* is being called for."""
    key = (id(signal), id(sender), *map(id, named.values()))
    events = _memory.events
    event = events.get(key)
    if event is not None and id(connection) not in event.seen:
        event.seen.add(id(connection))
        return event
    event = Event(dt.datetime.now(dt.UTC), {id(connection)})
    events.pop(key, None)  # The latest stands last.
    events[key] = event
    if len(events) > MEMORY:
        del events[next(iter(events))]
    return event


def envelope_of(
    event: Event,
    receiver: Receiver,
    path: str | None,
    encoded: dict[str, Any],
    cause: Delivery | None,
) -> Envelope:
    """Return the delivery of *event* to *receiver*; *encoded* is its sender and arguments."""
    return Envelope(
        id=new_id(),
        event_id=event.id,
        receiver=receiver.name,
        signal=path,
        sent_at=event.sent_at,
        sender=encoded.pop("sender", None),
        kwargs=encoded,
        payload_version=receiver.options.payload_version,
        cause=cause.id if cause is not None else None,
        chain=(*cause.chain, cause.receiver) if cause is not None else (),
    )
