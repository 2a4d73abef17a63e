"""What is old enough to be forgotten; what failed and nobody has handled never is."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q, Subquery

from ..conf import get_settings
from ..models import (
    Claim,
    Delivery,
    Event,
    FailureGroup,
    Operation,
    OperationItem,
    State,
    UniqueEvent,
)
from . import begin_writing
from .clock import Now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import QuerySet

__all__ = ["CHUNK", "prunable", "prune", "prune_deliveries", "prune_records"]

#: Rows deleted in one transaction: others wait no longer than for these.
CHUNK = 500


def prune(using: str) -> Iterator[int]:
    """
    Delete what is older than it is kept, one batch with each step; yields how many rows.

    Whoever has other work goes on with it between the steps.
    """
    rows = prunable(using)
    while number := prune_deliveries(rows, CHUNK):
        yield number
    yield from prune_records(using)


def prunable(
    using: str, *, succeeded: float | None = None, handled: float | None = None
) -> QuerySet[Delivery]:
    """
    Return the deliveries that are older than they are kept.

    Args:
        using: Alias of the ledger's database.
        succeeded: Seconds that successes are kept; None: ``KEEP_SUCCEEDED``.
        handled: Seconds that handled failures are kept: what was discarded, or has succeeded
            after it had failed; None: ``KEEP_HANDLED``.
    """
    settings = get_settings()
    succeeded = settings.keep_succeeded if succeeded is None else succeeded
    handled = settings.keep_handled if handled is None else handled
    return Delivery._base_manager.using(using).filter(
        (Q(state=State.SUCCEEDED, fingerprint="") & _finished_before(succeeded))
        | (Q(state=State.SUCCEEDED) & ~Q(fingerprint="") & _finished_before(handled))
        | (Q(state=State.DISCARDED) & _finished_before(handled))
    )


def _finished_before(seconds: float) -> Q:
    # Sent before it was finished: so the index of state and time narrows it.
    return Q(sent_at__lt=_ago(seconds), finished_at__lt=_ago(seconds))


def prune_deliveries(rows: QuerySet[Delivery], size: int) -> int:
    """
    Delete the first *size* of *rows*, and events that are left without any; return how many.

    Locked from the look to the deletion: what somebody retries in between is kept.
    """
    using = rows.db
    with transaction.atomic(using=using):
        begin_writing(using)
        if connections[using].features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        found = list(rows.values_list("pk", "event_id")[:size])
        Delivery._base_manager.using(using).filter(pk__in=[key for key, _ in found]).delete()
        events = Event._base_manager.using(using).filter(pk__in={event for _, event in found})
        left = Delivery._base_manager.using(using).filter(event=OuterRef("pk"))
        events.filter(~Exists(left)).delete()
    return len(found)


def prune_records(using: str, *, but: Operation | None = None) -> Iterator[int]:
    """
    Delete receipts, unique events, operations and groups whose time is over.

    Operations on deliveries that are still there are kept with them. One batch with each step;
    yields how many rows, which may be none.

    Args:
        using: Alias of the ledger's database.
        but: An operation that is kept, however old: the one that asks for it.
    """
    yield from _delete_operations(using, but)
    for records in _records(using):
        yield from _delete(records)


def _records(using: str) -> list[Callable[[], QuerySet[Any]]]:
    before = _ago(get_settings().keep_handled)
    deliveries = Delivery._base_manager.using(using)
    in_group = deliveries.filter(fingerprint=OuterRef("fingerprint"))
    return [
        lambda: _receipts(using),
        lambda: UniqueEvent._base_manager.using(using).filter(expires_at__lt=Now()),
        lambda: (
            FailureGroup._base_manager.using(using)
            .filter(last_at__lt=before)
            .filter(~Exists(in_group))
        ),
    ]


def _ago(seconds: float) -> Any:
    return Now() - dt.timedelta(seconds=seconds)


def _receipts(using: str) -> QuerySet[Claim]:
    # As long as there is a row, a message that comes again must find that it was claimed.
    rows = Delivery._base_manager.using(using).filter(pk=OuterRef("pk"))
    return Claim._base_manager.using(using).filter(~Exists(rows), done=True, expires_at__lt=Now())


def _delete_operations(using: str, but: Operation | None) -> Iterator[int]:
    """Go once through those that are old enough: what is kept is not looked at again and again."""
    operations = Operation._base_manager.using(using)
    there = Delivery._base_manager.using(using).filter(pk=OuterRef("delivery"))
    items = OperationItem._base_manager.using(using).filter(operation=OuterRef("pk"))
    # One of each, not whether there is any: for that, PostgreSQL may read all items there are.
    kept_for = Subquery(items.filter(Exists(there)).values("delivery")[:1])
    old = operations.filter(started_at__lt=_ago(get_settings().keep_handled)).order_by("pk")
    rows, last = old.annotate(kept_for=kept_for).values_list("pk", "kept_for"), uuid.UUID(int=0)
    while found := list(rows.filter(pk__gt=last)[:CHUNK]):
        over = {key for key, kept_for in found if kept_for is None}
        if but is not None:
            over.discard(but.pk)
        operations.filter(pk__in=over).delete()
        yield len(over)
        last = found[-1][0]


def _delete(rows: Callable[[], QuerySet[Any]]) -> Iterator[int]:
    while keys := list(rows().values_list("pk", flat=True)[:CHUNK]):
        # Asked again: what has been renewed meanwhile is kept.
        rows().filter(pk__in=keys).delete()
        yield len(keys)
