"""Keep in the ledger what a worker cannot run: of an unknown receiver, or not to be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError

from . import registry
from .exceptions import DeliveryError, FutureEnvelopeError, ReceiverNotFoundError
from .ledger import alias, due, records
from .ledger.failures import failure_of
from .ledger.keeping import keep_aside
from .ledger.masking import mask_for
from .ledger.patience import patiently
from .ledger.spool import Standing
from .wire.envelope import Envelope, reseal, unpack

if TYPE_CHECKING:
    from .ledger.failures import Failure
    from .wire.envelope import Reference

__all__ = ["keep_unknown", "keep_unreadable"]

logger = logging.getLogger("async_signals")

#: Seconds before a delivery for a receiver that a worker did not know is published again: at
#: first, and at most, should it come to such a worker again and again.
ORPHAN, LONGEST_ORPHAN = 5.0, 60.0


def keep_unknown(wire: object, *, name: str) -> bool:
    """
    Keep deliveries for a receiver that this process does not know; return whether it could.

    They wait in the ledger for a relay that knows it, or for a person; in the spool, where the
    ledger is down.
    """
    try:
        deliveries = unpack(wire)
    except DeliveryError as exc:
        logger.error("Cannot keep a delivery for %s: %s", name, exc)  # noqa: TRY400
        return False
    envelopes = [each for each in deliveries if isinstance(each, Envelope)]
    failure = failure_of(_not_found(name), mask_for((), None, None), receiver=name)
    standing = Standing(wait=ORPHAN, failure=failure, final=False, deliverable=True, told=True)
    try:
        for each in deliveries:
            if not isinstance(each, Envelope):  # In the ledger already: not to wait as published.
                _put_off(each)
        if envelopes:
            patiently(lambda: records.stored(envelopes, using=alias(), **standing), alias())
    except (DatabaseError, InterfaceError) as exc:
        # Celery has let the message go. What is in the ledger is published again by itself.
        return keep_aside(envelopes, type(exc).__name__, standing)
    return True


def _put_off(reference: Reference) -> None:
    using, wait, longest = reference.using, ORPHAN, LONGEST_ORPHAN
    patiently(lambda: due.put_off(reference.id, using, wait=wait, longest=longest), using)


def keep_unreadable(
    wire: object,
    exc: DeliveryError,
    *,
    name: str,
    id: str,  # noqa: A002
    is_let_go: bool = False,
) -> None:
    """
    Keep a message that this worker cannot read: failed, for a person to retry after a deploy.

    Args:
        wire: The message, of any kind of receiver.
        exc: Why it cannot be read.
        name: Name of the receiver.
        id: The task's, which is that of the first delivery.
        is_let_go: The broker does not have it any more: where the ledger is down it is spooled,
            or logged as lost.

    Raises:
        DatabaseError: The ledger cannot be reached; unless *is_let_go*.
    """
    failure = failure_of(exc, mask_for((), None, None), receiver=name)
    try:
        patiently(lambda: _keep_unreadable(wire, failure, name, id), alias())
    except (DatabaseError, InterfaceError) as error:
        if not is_let_go:
            raise
        _spool_unreadable(wire, failure, error, name, id)


def _spool_unreadable(
    wire: object,
    failure: Failure,
    error: Exception,
    name: str,
    id: str,  # noqa: A002
) -> None:
    try:
        envelopes = [each for each in unpack(wire) if isinstance(each, Envelope)]
    except FutureEnvelopeError:
        logger.critical(
            "Lost delivery %s of %s: it cannot be read, and the ledger cannot keep it: %s",
            id,
            name,
            error,
        )
    else:
        standing = Standing(wait=0, failure=failure, final=True, deliverable=True, told=True)
        keep_aside(envelopes, type(error).__name__, standing)


def _keep_unreadable(wire: object, failure: Failure, name: str, id: str) -> None:  # noqa: A002
    using = alias()
    try:
        envelopes = [each for each in unpack(wire) if isinstance(each, Envelope)]
    except FutureEnvelopeError:
        records.stored_unread(reseal(str(wire)), failure, receiver=name, id=id, using=using)
    else:
        records.stored(envelopes, using=using, failure=failure, final=True)


def _not_found(name: str) -> ReceiverNotFoundError:
    try:
        registry.get(name)
    except ReceiverNotFoundError as exc:
        return exc
    return ReceiverNotFoundError(f"cannot find receiver {name!r}: its task is missing.")
