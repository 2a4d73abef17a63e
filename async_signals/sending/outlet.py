"""Where messages leave this process: published, kept in the ledger, or lost by name."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..announcing import announce
from ..conf import get_settings
from ..signals import delivery_published
from .outbox import at_once, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..wire.message import Message

__all__ = ["outlet", "publish_and_log", "send"]

logger = logging.getLogger("async_signals")


def publish_and_log(messages: Sequence[Message]) -> None:
    """Publish; keep what is robust and was not taken, and say loudly what else was lost."""
    messages = at_once(messages)
    late = [message for message in messages if _is_for_later(message)]
    now = [message for message in messages if message not in late] if late else messages
    refused = publish(now) if now else []
    _announce(now, refused)
    robust = [
        (message, exc)
        for message, exc in refused
        if message.receiver.options.robust and message.stored is None
    ]
    if late or robust:
        _keep(late, robust)
    lost = [(message, exc) for message, exc in refused if not message.receiver.options.robust]
    if any(message.unique is not None for message, _ in lost):
        from ..ledger.uniqueness import give_back  # noqa: PLC0415  (as in _keep)

        give_back([message for message, _ in lost if message.unique is not None])
    for message, exc in lost:
        for envelope in message.envelopes:
            logger.error(
                "Lost delivery %s of %s: cannot publish it, expected a broker that takes it, "
                "got: %s. Its event is committed and will not be sent again.",
                envelope.id,
                envelope.receiver,
                _told(exc),
            )


def _is_for_later(message: Message) -> bool:
    """Whether it waits in the ledger: brokers multiply what waits in them for long."""
    options = message.receiver.options
    is_kept_here = options.robust and message.stored is None
    return is_kept_here and (options.countdown or 0) > get_settings().relay_interval


def _keep(late: Sequence[Message], refused: Sequence[tuple[Message, Exception]]) -> None:
    """Put robust deliveries that are not in the broker into the ledger."""
    # Its models need the app registry, which importing this package does not.
    from ..ledger.keeping import keep  # noqa: PLC0415

    for message in late:
        keep(message.envelopes, wait=message.receiver.options.countdown or 0)
    keep([each for message, _ in refused for each in message.envelopes])
    for message, exc in refused:
        logger.warning(
            "Kept delivery %s of %s in the ledger: the broker did not take it, %s. It is "
            "published when the broker is back.",
            message.envelopes[0].id,
            message.receiver.name,
            _told(exc),
        )


def _announce(messages: Sequence[Message], refused: Sequence[tuple[Message, Exception]]) -> None:
    lost = {id(message) for message, _ in refused}
    for message in messages:
        if message.size > 1 or id(message) in lost:
            continue
        if delivery_published.has_listeners(message.receiver.function):
            for envelope in message.envelopes:
                announce(delivery_published, envelope.as_delivery(attempt=1))


def _told(exc: BaseException) -> str:
    told = f"{type(exc).__name__}: {str(exc).rstrip('.')}"
    return f"{told}, after {_told(exc.__cause__)}" if exc.__cause__ is not None else told


#: Where messages leave this process. ``async_signals.testing`` puts its own in.
outlet: ContextVar[Callable[[Sequence[Message]], None]] = ContextVar(
    "async_signals_outlet", default=publish_and_log
)


def send(messages: Sequence[Message]) -> None:
    """Let *messages* out, without those that were sent already."""
    if any(message.unique is not None for message in messages):
        from ..ledger.uniqueness import unsent  # noqa: PLC0415  (as in _keep)

        messages = unsent(messages)
    if messages:
        outlet.get()(messages)
