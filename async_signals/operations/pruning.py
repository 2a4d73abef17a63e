"""Prune: what nobody will ask for any more is deleted; never what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from ..ledger import alias, begin_writing, pruning
from ..models import Operation
from .record import author, begin, count, draft, finish

if TYPE_CHECKING:
    import datetime as dt

    from django.db.models import QuerySet

    from ..models import Delivery
    from .record import Progress

__all__ = ["prunable", "prune"]


def prune(
    *,
    older_than: dt.timedelta | None = None,
    by: str,
    via: str = "api",
    reason: str = "",
    limit: int | None = None,
    using: str | None = None,
    progress: Progress | None = None,
) -> Operation:
    """
    Delete successes, discarded deliveries, receipts and records whose time is over.

    Failed deliveries are kept, however old, and what people did to a delivery as long as itself.
    It deletes in batches, writes down how many together with each, and no item for each delivery;
    where there was nothing to delete, the operation is returned but not stored.

    Args:
        older_than: How long a delivery must be done; None: ``KEEP_SUCCEEDED`` for successes,
            ``KEEP_HANDLED`` for discarded ones.
        by: Who asks for it.
        via: Through what: "admin", "command" or "api".
        reason: Why; for the audit.
        limit: Delete at most so many deliveries.
        using: Alias of the database that has them; None: that of the routers.
        progress: Called after each batch with the number of deliveries deleted, twice.

    Raises:
        OperationError: *by* is empty.
    """
    using = using or alias()
    who = author("prune the ledger", by=by, via=via, reason=reason)
    target = f"done for {older_than}" if older_than is not None else "done for as long as is kept"
    operation = draft(Operation.Verb.PRUNE, who, target=target)
    _prune_deliveries(operation, prunable(older_than, using=using), limit, progress)
    _prune_records(operation, using)
    if operation._state.adding:
        operation.finished_at = timezone.now()
        return operation
    return finish(operation)


def prunable(older_than: dt.timedelta | None = None, *, using: str) -> QuerySet[Delivery]:
    """Return the deliveries that ``prune()`` would delete."""
    seconds = older_than.total_seconds() if older_than is not None else None
    return pruning.prunable(using, succeeded=seconds, handled=seconds)


def _prune_deliveries(
    operation: Operation, rows: QuerySet[Delivery], limit: int | None, progress: Progress | None
) -> None:
    if limit is not None:  # Only then does it matter which go first.
        rows = rows.order_by("sent_at", "pk")
    number = size = 1
    while number == size and (limit is None or operation.changed < limit):
        size = pruning.CHUNK if limit is None else min(pruning.CHUNK, limit - operation.changed)
        with transaction.atomic(using=rows.db):
            number = pruning.prune_deliveries(rows, size)
            _write_down(operation, rows.db, deliveries=number)
        if progress is not None and number:
            progress(operation.changed, operation.changed)


def _prune_records(operation: Operation, using: str) -> None:
    target, others = operation.target, 0
    number: int | None = 0
    steps = pruning.prune_records(using, but=operation)
    while number is not None:
        with transaction.atomic(using=using):
            begin_writing(using)
            number = next(steps, None)
            others += number or 0
            operation.target = f"{target}; {others} receipts and records"
            _write_down(operation, using, records=number or 0)


def _write_down(operation: Operation, using: str, *, deliveries: int = 0, records: int = 0) -> None:
    """Begin the operation with the first that is deleted, in the transaction that deletes it."""
    if not deliveries and not records:
        return
    if operation._state.adding:
        begin(operation, using=using)
    count(operation, changed=deliveries)
