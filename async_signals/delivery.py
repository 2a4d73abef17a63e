"""What a receiver may ask about the delivery that it is called for."""

from __future__ import annotations

import contextvars
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["Delivery", "at_work", "current_delivery", "running"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one receiver, as the receiver sees it."""

    id: str  #: Equal for every attempt: an idempotency key.
    event_id: str  #: Equal for every receiver of the same event.
    receiver: str  #: Name of the receiver.
    attempt: int  #: 1 for the first run.
    sent_at: dt.datetime  #: Aware, UTC: when the signal was sent.
    replay: bool = False  #: A person has asked for this run of a recorded event.
    chain: tuple[str, ...] = ()  #: The receivers that caused each other up to this one.


#: The delivery whose receiver runs in this context.
running: contextvars.ContextVar[Delivery | None] = contextvars.ContextVar(
    "async_signals_running", default=None
)


#: Whether this context is the package's own: a worker's task, or the relay.
at_work: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "async_signals_at_work", default=False
)


def current_delivery() -> Delivery | None:
    """Return the delivery whose receiver is running here; None in a plain call."""
    return running.get()
