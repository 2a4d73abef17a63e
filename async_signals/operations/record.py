"""The record of an operation: who did what to what, and what it came to for each."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from ..exceptions import OperationError
from ..ids import new_id
from ..ledger import alias, begin_writing
from ..ledger.masking import storable
from ..models import Operation, OperationItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .frozen_set import FrozenSet

    #: Is told how many of how many deliveries are done.
    Progress = Callable[[int, int], None]

__all__ = ["Author", "Item", "author", "begin", "count", "draft", "finish", "note", "run"]

#: Longest answer that the column of an item takes.
LONGEST = 255


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What an operation came to for one delivery."""

    delivery: uuid.UUID
    changed: bool
    outcome: str  #: In words.

    def of(self, size: int) -> Item:
        """Return the same, where the row stands for *size* deliveries."""
        if size == 1:
            return self
        return dataclasses.replace(self, outcome=f"{self.outcome} ({size} deliveries in one)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who does something, through what, and why: texts that every database takes."""

    by: str
    via: str
    reason: str


def author(verb: str, *, by: str, via: str, reason: str, needs_reason: bool = False) -> Author:
    """
    Return who has to account for an operation; before anything is changed.

    Raises:
        OperationError: *by* is empty, or *reason* is and has to be given.
    """
    by, via, reason = storable(by)[:255], storable(via)[:20], storable(reason)
    if not by.strip():
        raise OperationError(
            f"cannot {verb}: expected who does it, got: by=''. Pass the name of a user, or of the "
            "job that does it."
        )
    if needs_reason and not reason.strip():
        raise OperationError(
            f"cannot {verb}: expected a reason, got: none. It is shown to whoever asks later what "
            "became of the delivery."
        )
    return Author(by=by, via=via, reason=reason)


def draft(verb: str, who: Author, *, target: str, total: int = 0) -> Operation:
    """Return an operation that is not written down yet."""
    return Operation(
        verb=verb,
        by=who.by,
        via=who.via,
        reason=who.reason,
        target=storable(target),
        total=total,
        started_at=timezone.now(),
    )


def begin(operation: Operation, *, using: str) -> Operation:
    """Write down that an operation has begun: before what it changes, or together with that."""
    operation.pk = uuid.UUID(new_id())
    operation.save(using=using, force_insert=True)
    return operation


def run(
    operation: Operation,
    frozen: FrozenSet,
    change: Callable[[list[uuid.UUID]], list[Item]],
    progress: Progress | None,
) -> Operation:
    """
    Call *change* for each batch of ids, in a transaction with the items that it returns.

    What breaks in the middle leaves an operation that is not finished and says how far it came.
    """
    using = operation._state.db or alias()
    done = 0
    for batch in frozen.batches():
        with transaction.atomic(using=using):
            begin_writing(using)
            note(operation, change(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(frozen))
    return finish(operation)


def note(operation: Operation, items: Iterable[Item]) -> None:
    """Add what became of some deliveries."""
    rows = [
        OperationItem(
            operation_id=operation.pk,
            delivery=item.delivery,
            changed=item.changed,
            outcome=item.outcome[:LONGEST],
        )
        for item in items
    ]
    OperationItem.objects.using(operation._state.db).bulk_create(rows)
    changed = sum(row.changed for row in rows)
    count(operation, changed=changed, unchanged=len(rows) - changed)


def count(operation: Operation, *, changed: int, unchanged: int = 0) -> None:
    """Add to what an operation has come to so far; its total grows where it was not known."""
    operation.changed += changed
    operation.unchanged += unchanged
    operation.total = max(operation.total, operation.changed + operation.unchanged)
    fields = ["changed", "unchanged", "total", "target"]
    operation.save(using=operation._state.db, update_fields=fields)


def finish(operation: Operation) -> Operation:
    """Write down that the operation is over."""
    operation.finished_at = timezone.now()
    operation.save(using=operation._state.db, update_fields=["finished_at"])
    return operation
