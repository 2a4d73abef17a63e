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
from ..models import Operation, OperationItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .frozen_set import FrozenSet

    #: Is told how many of how many deliveries are done.
    Progress = Callable[[int, int], None]

__all__ = ["Item", "begin", "check_author", "finish", "note", "run"]

#: Longest answer that the column of an item takes.
LONGEST = 255


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What an operation came to for one delivery."""

    delivery: uuid.UUID
    changed: bool
    outcome: str  #: In words.


def check_author(verb: str, by: str, reason: str, *, needs_reason: bool = False) -> None:
    """
    Refuse what could not be accounted for afterwards.

    Raises:
        OperationError: *by* is empty, or *reason* is and has to be given.
    """
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


def begin(
    verb: str, *, using: str, target: str, total: int, by: str, via: str, reason: str
) -> Operation:
    """Write down that an operation on *total* deliveries has begun."""
    return Operation.objects.using(using).create(
        id=uuid.UUID(new_id()),
        verb=verb,
        by=by[:255],
        via=via[:20],
        reason=reason,
        target=target,
        total=total,
        started_at=timezone.now(),
    )


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
    operation.changed += changed
    operation.unchanged += len(rows) - changed
    operation.save(using=operation._state.db, update_fields=["changed", "unchanged"])


def finish(operation: Operation) -> Operation:
    """Write down that the operation is over."""
    operation.finished_at = timezone.now()
    operation.save(using=operation._state.db, update_fields=["finished_at"])
    return operation
