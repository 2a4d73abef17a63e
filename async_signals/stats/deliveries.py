"""Deliveries, many or one."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

from ..exceptions import OperationError
from ..ledger import alias
from ..ledger.turns import with_holder, with_number_held
from ..models import Attempt, Delivery, OperationItem, State
from .filters import NAMED_IDS, Filter

if TYPE_CHECKING:
    import datetime as dt

    from django.db.models import QuerySet

__all__ = ["HEX_DIGITS", "DeliveryView", "count", "deliveries", "matching", "show"]

HEX_DIGITS = 32  # Of a UUID.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One delivery with all that is known of it."""

    delivery: Delivery  #: With its event.
    attempts: tuple[Attempt, ...]  #: The first one first.
    operations: tuple[OperationItem, ...]  #: With their operations, the first one first.

    @property
    def next_at(self) -> dt.datetime | None:
        """When the next attempt is due; None: a worker has it, or nothing will happen."""
        return self.delivery.due_at if self.delivery.state == State.PENDING else None


def deliveries(
    filter: Filter,  # noqa: A002  (Django's word)
    *,
    limit: int,
    using: str | None = None,
) -> list[Delivery]:
    """Return the newest deliveries that match, at most *limit*, with their events: 1 query."""
    found = filter.apply(with_holder(Delivery.objects.using(using or alias())))
    found = found.select_related("event")
    return list(found.defer("envelope").order_by("-sent_at", "-pk")[:limit])


def count(
    filter: Filter,  # noqa: A002  (as above)
    *,
    cap: int = 10_001,
    using: str | None = None,
) -> int:
    """Return how many deliveries match, or *cap* where there are that many or more: 1 query."""
    return filter.apply(Delivery.objects.using(using or alias()))[:cap].count()


def show(
    id: str | uuid.UUID,  # noqa: A002  (the delivery's own word for it)
    *,
    among: QuerySet[Delivery] | None = None,
    using: str | None = None,
) -> DeliveryView:
    """
    Return one delivery with its attempts and what people did to it: 3 queries.

    Args:
        id: A UUID, or as much of its beginning as tells it from all others.
        among: The deliveries that it has to be one of; None: all.
        using: Alias of the database that has it; None: that of *among*, or of the routers.

    Raises:
        OperationError: *id* is no beginning of a UUID, or of no delivery, or of several.
    """
    ledger = using or (among.db if among is not None else alias())
    every = Delivery.objects.using(ledger) if among is None else among
    rows = _beginning(str(id), with_number_held(with_holder(every)))
    found = list(rows.select_related("event")[:NAMED_IDS])
    delivery = only_one(str(id), [row.pk for row in found]) and found[0]
    if not delivery:
        raise OperationError(
            f"cannot show delivery {str(id)!r}: expected one in the ledger, got: none of that id. "
            "It was pruned, or succeeded at once, which leaves no row."
        )
    attempts = Attempt.objects.using(ledger).filter(delivery=delivery.pk).order_by("number")
    items = OperationItem.objects.using(ledger).filter(delivery=delivery.pk)
    return DeliveryView(
        delivery=delivery,
        attempts=tuple(attempts),
        operations=tuple(items.select_related("operation").order_by("operation__started_at", "pk")),
    )


def matching(prefix: str, *, using: str | None = None) -> uuid.UUID | None:
    """
    Return the id that begins with *prefix*, or None: 1 query.

    Raises:
        OperationError: *prefix* is no beginning of a UUID, or that of several deliveries.
    """
    rows = _beginning(prefix, Delivery.objects.using(using or alias()))
    return only_one(prefix, list(rows.values_list("pk", flat=True)[:NAMED_IDS]))


def only_one(prefix: str, found: list[uuid.UUID]) -> uuid.UUID | None:
    """
    Return the one that was found, or None.

    Raises:
        OperationError: It is not the only one.
    """
    if len(found) > 1:
        raise OperationError(
            f"cannot tell which delivery {prefix!r} is: expected the beginning of one id, got: "
            f"that of {', '.join(map(str, found))}. Type more of it."
        )
    return found[0] if found else None


def _beginning(prefix: str, among: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Return those whose ids begin with *prefix*: a range of the primary key."""
    digits = prefix.replace("-", "").lower()
    if not digits or len(digits) > HEX_DIGITS or set(digits) - set("0123456789abcdef"):
        raise OperationError(
            f"cannot find delivery {prefix!r}: expected a UUID or the beginning of one, got: "
            "another text. `manage.py async_signals list` shows ids to copy."
        )
    first, last = (uuid.UUID(digits.ljust(HEX_DIGITS, filler)) for filler in "0f")
    return among.filter(pk__gte=first, pk__lte=last).order_by("pk")
