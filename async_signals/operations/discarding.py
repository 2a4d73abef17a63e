"""Discard: a delivery is given up, with a reason."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from django.db import transaction

from ..announcing import announce
from ..ledger import alias
from ..ledger.causes import chains_of
from ..ledger.clock import Now, is_past
from ..ledger.deaths import record_deaths, seen_together
from ..ledger.records import delivery_of
from ..ledger.turns import end
from ..models import Delivery, Operation, State
from ..signals import delivery_discarded
from .frozen_set import freeze, in_time
from .record import Item, author, begin, draft, run

if TYPE_CHECKING:
    import uuid

    from ..stats import Filter
    from .frozen_set import FrozenSet
    from .record import Progress

__all__ = ["FITS", "discard"]

#: What becomes of a delivery, by its state; True: it may be discarded.
_OUTCOMES = {
    State.FAILED: (True, "discarded: it had failed"),
    State.PENDING: (True, "discarded: it was waiting"),
    State.PUBLISHED: (False, "left: it is in the broker"),
    State.RUNNING: (False, "left: it is running"),
    State.SUCCEEDED: (False, "left: it has succeeded"),
    State.DISCARDED: (False, "left: it is discarded already"),
}
#: Where it is due: nobody has come for it in time, and its receiver may be gone for good.
_OUTCOMES_WHEN_DUE = _OUTCOMES | {
    State.PUBLISHED: (True, "discarded: no worker had claimed it in time"),
    State.RUNNING: (True, "discarded: its lease was over"),
}
#: Which it changes.
FITS = in_time(_OUTCOMES, _OUTCOMES_WHEN_DUE)


def discard(
    filter: Filter | FrozenSet,  # noqa: A002  (Django's word)
    *,
    by: str,
    reason: str,
    via: str = "api",
    limit: int | None = None,
    using: str | None = None,
    progress: Progress | None = None,
) -> Operation:
    """
    Give deliveries up that have failed or wait; ``delivery_discarded`` is sent for each.

    What is in the broker or running is left alone, unless it is due again, and its item says so.

    Args:
        filter: Without ids and state it means what failed or is still on its way. Or what was
            frozen by ``rehearse()``: exactly that.
        by: Who asks for it.
        reason: Why; it is shown with the delivery.
        via: Through what: "admin", "command" or "api".
        limit: Take at most so many, the oldest first.
        using: Alias of the database that has them; None: that of the routers.
        progress: Called after each batch with the number done, and of all.

    Raises:
        OperationError: *by* or *reason* is empty, or an id is not a UUID.
    """
    verb, using = Operation.Verb.DISCARD, using or alias()
    who = author("discard deliveries", by=by, via=via, reason=reason, needs_reason=True)
    frozen = freeze(verb, filter, using=using, limit=limit)
    drafted = draft(verb, who, target=str(frozen), total=len(frozen))
    operation = begin(drafted, using=using)
    return run(operation, frozen, functools.partial(_discard, using, who.reason), progress)


def _discard(using: str, reason: str, ids: list[uuid.UUID]) -> list[Item]:
    locked = (
        Delivery.objects.using(using)
        .filter(pk__in=ids)
        .select_for_update()
        .only(
            "event_id",
            "receiver",
            "state",
            "epoch",
            "sent_at",
            "replay_of_id",
            "fingerprint",
            "size",
        )
        .annotate(is_due=is_past("due_at"))
        .order_by("pk")
    )
    rows = {row.pk: row for row in locked}
    items = [
        Item(
            key, *(_OUTCOMES_WHEN_DUE if rows[key].is_due else _OUTCOMES)[State(rows[key].state)]
        ).of(rows[key].size)
        if key in rows
        else Item(key, False, "left: there is no such delivery")  # noqa: FBT003
        for key in ids
    ]
    given_up = [rows[item.delivery] for item in items if item.changed]
    deaths = record_deaths([row.pk for row in given_up if row.state == State.RUNNING], using)
    Delivery.objects.using(using).filter(pk__in=[row.pk for row in given_up]).update(
        state=State.DISCARDED, due_at=None, finished_at=Now(), reason=reason
    )
    end([row.pk for row in given_up], using)

    chains = chains_of([row.pk for row in given_up], using)
    seen_together(deaths, using)

    def tell() -> None:
        for row in given_up:
            announce(
                delivery_discarded,
                delivery_of(row, attempt=row.epoch, chain=chains.get(str(row.pk), ())),
                reason=reason,
                using=using,
                fingerprint=row.fingerprint,
            )

    # A plain function: Django 5.2 and 6.0 cannot log what a partial raises.
    transaction.on_commit(tell, using=using, robust=True)
    return items
