"""Robust deliveries that could not be published: into the ledger, or else into the spool."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

from . import alias
from .coroutines import off_the_loop
from .records import stored
from .spool import Standing, spool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.envelope import Envelope
    from .failures import Failure

__all__ = ["keep", "keep_aside"]

logger = logging.getLogger("async_signals")


def keep(
    envelopes: Sequence[Envelope],
    *,
    wait: float = 0,
    refusal: Failure | None = None,
    told: bool = True,
) -> None:
    """
    Store deliveries, whatever happens.

    Args:
        envelopes: Of robust receivers.
        wait: Seconds before the relay publishes them.
        refusal: Why they can never be delivered: nothing of what they carried could be sent.
        told: Whether it is announced that they have failed.
    """
    using = alias()
    standing = Standing(
        wait=wait,
        failure=refusal,
        final=refusal is not None,
        deliverable=refusal is None,
        told=told,
    )
    if connections[using].in_atomic_block:
        # What a rollback of that transaction undid would be lost.
        keep_aside(envelopes, "in a transaction", standing)
        return
    try:
        off_the_loop(lambda: stored(envelopes, using=using, **standing), using)
    except Exception as exc:  # noqa: BLE001  (never lost, whatever it is)
        with contextlib.suppress(SynchronousOnlyOperation):
            connections[using].close_if_unusable_or_obsolete()
        keep_aside(envelopes, type(exc).__name__, standing)


def keep_aside(envelopes: Sequence[Envelope], why: str, standing: Standing) -> bool:
    """
    Spool deliveries that nothing else takes; return whether all of them could be written.

    Args:
        envelopes: Of receivers of any kind.
        why: What is with the ledger.
        standing: What becomes of them in the ledger.
    """
    unwritten = spool(envelopes, standing)
    for envelope, exc in unwritten:
        logger.critical(
            "Lost delivery %s of %s: neither broker, database (%s) nor spool (%s) took it.",
            envelope.id,
            envelope.receiver,
            why,
            exc,
        )
    written = len(envelopes) - len(unwritten)
    if written:
        logger.warning(
            "Spooled %d deliveries: neither the broker nor the database (%s) took them. They are "
            "brought into the ledger when it is back.",
            written,
            why,
        )
    return not unwritten
