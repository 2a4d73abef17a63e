"""Retry: a delivery that failed gets another chance, or one that waits gets it now."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from django.db.models import Q
from django.db.models.functions import Length

from ..ledger import alias
from ..ledger.clock import Now, is_past
from ..ledger.deaths import record_deaths, seen_together
from ..ledger.turns import leave
from ..models import Delivery, Operation, State
from .frozen_set import freeze, in_time
from .record import Item, author, begin, draft, run

if TYPE_CHECKING:
    import uuid

    from ..stats import Filter
    from .frozen_set import FrozenSet
    from .record import Progress

__all__ = ["FITS", "retry"]

#: What becomes of a delivery, by its state; True: it may be retried.
_OUTCOMES = {
    State.FAILED: (True, "retried: it had failed"),
    State.DISCARDED: (True, "retried: it had been discarded"),
    State.PENDING: (True, "brought forward: it was to be attempted later"),
    State.PUBLISHED: (False, "left: it is in the broker"),
    State.RUNNING: (False, "left: it is running"),
    State.SUCCEEDED: (False, "left: it has succeeded; replay delivers it again"),
}
#: Where it is due: the message may be lost, the worker dead, and no relay here may look after it.
_OUTCOMES_WHEN_DUE = _OUTCOMES | {
    State.PENDING: (False, "left: it is due already"),
    State.PUBLISHED: (True, "retried: no worker had claimed it in time"),
    State.RUNNING: (True, "retried: its lease was over"),
}
#: Which it changes.
FITS = in_time(_OUTCOMES, _OUTCOMES_WHEN_DUE) & ~Q(envelope="")


def retry(
    filter: Filter | FrozenSet,  # noqa: A002  (Django's word)
    *,
    by: str,
    via: str = "api",
    reason: str = "",
    limit: int | None = None,
    using: str | None = None,
    progress: Progress | None = None,
) -> Operation:
    """
    Let the relay publish deliveries again, now and with all their attempts.

    Failed and discarded ones become pending, and so does what no worker has claimed, or ended,
    in time; pending ones become due. What is due already, in the broker, running or done is left
    alone, and its item says why.

    Args:
        filter: Without ids and state it means what failed or is still on its way. Or what was
            frozen by ``rehearse()``: exactly that.
        by: Who asks for it.
        via: Through what: "admin", "command" or "api".
        reason: Why; for the audit.
        limit: Take at most so many, the oldest first.
        using: Alias of the database that has them; None: that of the routers.
        progress: Called after each batch with the number done, and of all.

    Raises:
        OperationError: *by* is empty, or an id is not a UUID.
    """
    verb, using = Operation.Verb.RETRY, using or alias()
    who = author("retry deliveries", by=by, via=via, reason=reason)
    frozen = freeze(verb, filter, using=using, limit=limit)
    drafted = draft(verb, who, target=str(frozen), total=len(frozen))
    operation = begin(drafted, using=using)
    return run(operation, frozen, functools.partial(_retry, using), progress)


def _retry(using: str, ids: list[uuid.UUID]) -> list[Item]:
    rows = Delivery.objects.using(using).filter(pk__in=ids).order_by("pk").select_for_update()
    # Locked first, looked at then: a statement that had to wait would compare with the time
    # before it waited. So whoever comes second finds it due, and leaves it.
    list(rows.values_list("pk"))
    found = {
        key: (state, due, bool(kept), size)
        for key, state, due, kept, size in rows.annotate(is_due=is_past("due_at")).values_list(
            "pk", "state", "is_due", Length("envelope"), "size"
        )
    }
    items = [_item(key, *found.get(key, ("", False, False, 1))) for key in ids]
    changed = [item.delivery for item in items if item.changed]
    running = [key for key in changed if found[key][0] == State.RUNNING]
    deaths = record_deaths(running, using)
    for key in running:
        leave(key, using, is_over=False)  # Its worker cannot any more, should it come back.
    Delivery.objects.using(using).filter(pk__in=changed).update(
        state=State.PENDING,
        due_at=Now(),
        attempts=0,
        deaths=0,
        publishes=0,
        retried_at=Now(),
        finished_at=None,
        reason="",
    )
    seen_together(deaths, using)
    return items


def _item(key: uuid.UUID, state: str, is_due: bool, is_kept: bool, size: int) -> Item:  # noqa: FBT001
    if not state:
        return Item(key, False, "left: there is no such delivery")  # noqa: FBT003
    if not is_kept:
        return Item(key, False, "left: it could not be sent, and there is nothing to deliver")  # noqa: FBT003
    return Item(key, *(_OUTCOMES_WHEN_DUE if is_due else _OUTCOMES)[State(state)]).of(size)
