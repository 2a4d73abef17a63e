"""
Run a receiver for a message: open > resolve > decode > translate > call.

Knows neither Celery nor the broker: the task translates, the tests call it directly.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import async_to_sync

from . import codec, registry
from .delivery import Delivery, running
from .envelope import unpack
from .exceptions import DecodeError, EnvelopeError, MissingInstanceError
from .outcomes import run_each

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .envelope import Envelope
    from .options import Upcaster
    from .registry import Receiver

__all__ = ["execute"]

logger = logging.getLogger("async_signals")


def execute(wire: object, *, name: str, attempt: int = 1) -> None:
    """
    Run the receiver called *name* for every delivery in *wire*.

    Raises:
        DeliveryError: A delivery cannot be turned into a call; the message has the cure.
        Exception: Whatever the receiver raised; an ``ExceptionGroup`` where the message
            carries several deliveries and more than one of them failed.
    """
    receiver = registry.get(name)
    run_each(lambda envelope: _run(receiver, envelope, attempt), unpack(wire))


def _run(receiver: Receiver, envelope: Envelope, attempt: int) -> None:
    if envelope.receiver not in (receiver.name, *receiver.aliases):
        raise EnvelopeError(
            f"cannot run {receiver.name}: expected a message for this receiver, got: one for "
            f"{envelope.receiver}. A message fits no other receiver than its own; name what "
            "was renamed with @async_receiver(..., aliases=[old name])."
        )
    upcasters = _upcasters_for(receiver, envelope)
    signal = receiver.signal_at(envelope.signal)
    try:
        sender = codec.decode(envelope.sender)
        kwargs = codec.decode(envelope.kwargs)
    except MissingInstanceError as exc:
        if receiver.options.missing == "skip":
            logger.info("Skipped delivery %s of %s: %s", envelope.id, receiver.name, exc)
            return
        raise
    for upcaster in upcasters:
        kwargs = _upcast(receiver, upcaster, kwargs)
    delivery = Delivery(
        id=envelope.id,
        event_id=envelope.event_id,
        receiver=receiver.name,
        attempt=attempt,
        sent_at=envelope.sent_at,
    )
    token = running.set(delivery)
    try:
        function = cast("Callable[..., object]", receiver.function)  # Alive: get() has looked.
        result = function(signal=signal, sender=sender, **kwargs)
        if inspect.isawaitable(result):
            async_to_sync(_finish)(result)
    finally:
        running.reset(token)


def _upcasters_for(receiver: Receiver, envelope: Envelope) -> tuple[Upcaster, ...]:
    """Return what translates the envelope's payload to the version that *receiver* reads."""
    options = receiver.options
    if envelope.payload_version > options.payload_version:
        raise EnvelopeError(
            f"cannot run {receiver.name}: expected a payload of version {options.payload_version} "
            f"or older, got: version {envelope.payload_version}. Deploy workers before senders."
        )
    return options.upcasters[envelope.payload_version - 1 :]


def _upcast(receiver: Receiver, upcaster: Upcaster, kwargs: dict[str, Any]) -> dict[str, Any]:
    newer = upcaster(kwargs)
    if not isinstance(newer, dict):
        raise DecodeError(
            f"cannot run {receiver.name}: expected a dict of kwargs from the upcaster "
            f"{getattr(upcaster, '__qualname__', 'without a name')}, got: {type(newer).__name__}. "
            "Return the kwargs of the newer version, also where they were changed in place."
        )
    return newer


async def _finish(result: Awaitable[Any]) -> None:
    await result
