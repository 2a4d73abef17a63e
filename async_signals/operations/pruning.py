"""Prune: what nobody will ask for any more is deleted; never what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from ..ledger import alias, pruning
from ..models import Operation
from .record import begin, check_author, finish

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

    Failed deliveries are kept, however old. It deletes in batches and writes no item for each;
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
    check_author("prune the ledger", by, reason)
    pruned = _in_batches(prunable(older_than, using=using), limit, progress)
    others = pruning.prune_records(using)
    target = f"done for {older_than}" if older_than is not None else "done for as long as is kept"
    words = f"{target}; {others} receipts and records"
    if not pruned and not others:
        now = timezone.now()
        return Operation(
            verb=Operation.Verb.PRUNE, by=by, via=via, target=words, started_at=now, finished_at=now
        )
    operation = begin(
        Operation.Verb.PRUNE, using=using, target=words, total=pruned, by=by, via=via, reason=reason
    )
    operation.changed = pruned
    operation.save(using=operation._state.db, update_fields=["changed"])
    return finish(operation)


def prunable(older_than: dt.timedelta | None = None, *, using: str) -> QuerySet[Delivery]:
    """Return the deliveries that ``prune()`` would delete."""
    seconds = older_than.total_seconds() if older_than is not None else None
    return pruning.prunable(using, succeeded=seconds, handled=seconds)


def _in_batches(rows: QuerySet[Delivery], limit: int | None, progress: Progress | None) -> int:
    pruned = 0
    while limit is None or pruned < limit:
        size = pruning.CHUNK if limit is None else min(pruning.CHUNK, limit - pruned)
        number = pruning.prune_deliveries(rows, size)
        pruned += number
        if progress is not None and number:
            progress(pruned, pruned)
        if number < size:
            break
    return pruned
