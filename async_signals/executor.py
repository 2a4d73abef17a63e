"""
Run a receiver for a message: open > resolve > decode > translate > call.

Knows neither Celery nor the broker: the task translates, the tests call it directly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from typing import TYPE_CHECKING, Any, NoReturn, cast

from asgiref.sync import async_to_sync
from django.db import connections

from . import codec, registry
from .delivery import running
from .exceptions import (
    DecodeError,
    DeliveryError,
    EnvelopeError,
    FutureEnvelopeError,
    MissingInstanceError,
)
from .outcomes import run_each
from .wire.envelope import Reference, unpack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from django.dispatch import Signal

    from .options import Upcaster
    from .registry import Receiver
    from .wire.envelope import Envelope

__all__ = ["Call", "RehearsalError", "call", "execute", "prepare", "rehearse", "running_as"]

logger = logging.getLogger("async_signals")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A delivery as a call of its receiver, ready to be made."""

    receiver: Receiver
    envelope: Envelope
    signal: Signal
    sender: object
    kwargs: dict[str, Any]


def execute(wire: object, *, name: str, attempt: int = 1) -> None:
    """
    Run the receiver called *name* for every delivery in *wire*, which travelled whole.

    Raises:
        DeliveryError: A delivery cannot be turned into a call; the message has the cure.
        Exception: Whatever the receiver raised; an ``ExceptionGroup`` where the message
            carries several deliveries and more than one of them failed.
    """
    receiver = registry.get(name)

    def run(delivery: Envelope | Reference) -> None:
        if isinstance(delivery, Reference):
            raise EnvelopeError(
                f"cannot run {name}: expected a delivery that travelled whole, got: one that is in "
                "the ledger. Only a robust receiver is sent such; deploy workers before senders."
            )
        prepared = prepare(receiver, delivery)
        if prepared is not None:
            call(prepared, attempt=attempt)

    run_each(run, unpack(wire))


def prepare(receiver: Receiver, envelope: Envelope) -> Call | None:
    """
    Turn a delivery into a call; None where its row is gone, and ``missing="skip"``.

    Raises:
        DeliveryError: It cannot be; the message has the cure.
    """
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
            # Not what the error says: the key may be a secret.
            logger.info(
                "Skipped delivery %s of %s: a row of %s is gone.",
                envelope.id,
                receiver.name,
                exc.model,
            )
            return None
        raise
    for upcaster in upcasters:
        kwargs = _upcast(receiver, upcaster, kwargs)
    return Call(receiver=receiver, envelope=envelope, signal=signal, sender=sender, kwargs=kwargs)


class RehearsalError(Exception):
    """Something asked a database while nothing but the payload was to be looked at."""


def rehearse(receiver: Receiver, envelope: Envelope) -> str | None:
    """
    Turn a delivery into a call that is not made; return what is wrong with it, None: nothing.

    No row is fetched; upcasters are called.

    Raises:
        RehearsalError: An upcaster asked a database: nobody can say without it.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(codec.rehearsal())
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(_refuse_query))
        try:
            prepared = prepare(receiver, envelope)
        except RehearsalError:
            raise
        except DeliveryError as exc:
            return str(exc)
        except Exception as exc:  # noqa: BLE001  (an upcaster may raise anything)
            # Not what it says: it may quote the payload.
            return f"cannot run {receiver.name}: its upcaster raises {type(exc).__name__}."
    if prepared is not None:
        function = cast("Callable[..., object]", receiver.function)
        try:
            inspect.signature(function).bind(
                signal=prepared.signal, sender=prepared.sender, **prepared.kwargs
            )
        except TypeError as exc:
            return (
                f"cannot run {receiver.name}: it does not take what was sent: {exc}. Give it "
                "upcasters, or parameters with defaults and **kwargs."
            )
    return None


def _refuse_query(*args: object) -> NoReturn:
    raise RehearsalError


def call(prepared: Call, *, attempt: int) -> None:
    """Call the receiver, and wait for it where it is a coroutine; raises what it raises."""
    with running_as(prepared.receiver, prepared.envelope, attempt=attempt):
        function = cast("Callable[..., object]", prepared.receiver.function)  # get() has looked.
        result = function(signal=prepared.signal, sender=prepared.sender, **prepared.kwargs)
        if inspect.isawaitable(result):
            async_to_sync(_finish)(result)


@contextlib.contextmanager
def running_as(receiver: Receiver, envelope: Envelope, *, attempt: int) -> Iterator[None]:
    """Let what is sent inside of the ``with`` block be caused by this attempt."""
    # Under the name that it has today, whatever it was called when this was sent.
    delivery = dataclasses.replace(envelope.as_delivery(attempt=attempt), receiver=receiver.name)
    token = running.set(delivery)
    try:
        yield
    finally:
        running.reset(token)


def _upcasters_for(receiver: Receiver, envelope: Envelope) -> tuple[Upcaster, ...]:
    """Return what translates the envelope's payload to the version that *receiver* reads."""
    options = receiver.options
    if envelope.payload_version > options.payload_version:
        raise FutureEnvelopeError(
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
