"""Robust deliveries that cannot be sent: recorded, so that the sender need not hear of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import connections

from ..callbacks import on_commit_first
from ..delivery import running
from .event import Draft
from .outbox import store_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.dispatch import Signal

    from ..registry import Receiver
    from ..wire.envelope import Envelope
    from .event import Event

__all__ = ["dispatch_refusal", "refuse"]

logger = logging.getLogger("async_signals")


def dispatch_refusal(
    receiver: Receiver,
    signal: Signal,
    event: Event,
    exc: Exception,
    alias: str,
    *,
    named: Mapping[str, object],
) -> None:
    """
    Log that an event cannot be sent to *receiver*, and record it if its transaction commits.

    What it carried is not kept: nothing of it could be written down. Of *named*, its arguments,
    what is secret is masked where the error quotes it. That it has failed is announced, unless
    another one that no worker ever had is being announced: that would go on without end.
    """
    draft = Draft(event, receiver, _path(receiver, signal), None, {}, running.get())
    refuse(receiver, draft.envelopes[0], exc, alias, named=named)


def refuse(
    receiver: Receiver,
    envelope: Envelope,
    exc: Exception,
    alias: str,
    *,
    named: Mapping[str, object] | None = None,
) -> None:
    """Do the same for what is known of the event already; *envelope* has no arguments."""
    from ..ledger.failures import failure_of  # noqa: PLC0415  (as below)
    from ..ledger.masking import mask_for  # noqa: PLC0415

    mask = mask_for(receiver.options.sensitive, named, exc)
    failure = failure_of(exc, mask, receiver=receiver.name)
    logger.error(
        "Cannot send an event of %s to %s: %s: %s",
        envelope.sent_at,
        receiver.name,
        type(exc).__name__,
        failure.message,
    )
    cause = running.get()
    told = cause is None or cause.attempt > 0
    if receiver.options.durable:
        store_refusal(receiver, envelope, failure, alias, told=told)
        return

    def record() -> None:
        # Its models need the app registry, which importing this package does not.
        from ..ledger.keeping import keep  # noqa: PLC0415

        keep([envelope], refusal=failure, told=told)

    is_known = alias in connections  # Perhaps that is the very reason.
    if receiver.options.on_commit and is_known and connections[alias].in_atomic_block:
        on_commit_first(record, alias)
    else:
        record()


def _path(receiver: Receiver, signal: Signal) -> str | None:
    try:
        return receiver.signal_path(signal)
    except Exception:  # noqa: BLE001  (which may be the very reason)
        return None
