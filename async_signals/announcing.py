"""Lifecycle signals are sent so that nothing that their receivers do changes a delivery."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import registry
from .delivery import running
from .exceptions import ReceiverNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.dispatch import Signal

    from .delivery import Delivery

__all__ = ["announce", "is_heard"]

logger = logging.getLogger("async_signals")


def announce(signal: Signal, delivery: Delivery, **named: Any) -> None:
    """
    Send *signal* about *delivery*; what its receivers raise is logged.

    By its type and place: they have the error of the delivery, which is not masked, and what
    they raise may quote it.
    """
    sender = _sender_for(delivery.receiver)
    # What its receivers send was caused by the delivery: without end, were they announced, too.
    token = running.set(delivery)
    try:
        responses = signal.send_robust(sender=sender, delivery=delivery, **named)
    except BaseException as exc:  # noqa: BLE001  (it would end the process that has recorded this)
        _say("A receiver of a lifecycle signal", delivery, exc)
        return
    finally:
        running.reset(token)
    for receiver, response in responses:
        if isinstance(response, Exception):
            name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
            _say(name, delivery, response)


def is_heard(signal: Signal, receiver: str) -> bool:
    """Whether anybody would be told, were *signal* sent about a delivery to *receiver*."""
    return signal.has_listeners(_sender_for(receiver))


def _sender_for(receiver: str) -> Callable[..., object] | None:
    try:
        return registry.get(receiver).function
    except ReceiverNotFoundError:
        return None


def _say(receiver: str, delivery: Delivery, exc: BaseException) -> None:
    kind, place = type(exc).__qualname__, _place_of(exc)
    logger.error("%s failed for %s: %s at %s.", receiver, delivery.id, kind, place)


def _place_of(exc: BaseException) -> str:
    """Return where *exc* was raised: file, line, function."""
    entry = exc.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    if entry is None:
        return "an unknown place"
    code = entry.tb_frame.f_code
    return f"{code.co_filename}:{entry.tb_lineno} in {code.co_name}"
