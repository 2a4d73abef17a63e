"""Deliveries, many or one."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

from django.db.models import Case, Prefetch, Q, TextField, Value, When

from ..exceptions import OperationError
from ..ledger import alias
from ..ledger.family import family_between
from ..ledger.turns import with_holder, with_number_held
from ..models import Attempt, Delivery, Event, OperationItem, State
from .filters import NAMED_IDS, Filter
from .relatives import Cause, causes_of, replays_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from django.db.models import QuerySet

__all__ = ["HEX_DIGITS", "DeliveryView", "count", "deliveries", "existing", "matching", "show"]

HEX_DIGITS = 32  # Of a UUID.

#: Ids that one query names.
CHUNK = 500

#: What a delivery has of its own, and nobody asks of those that it has to do with.
LARGE_TEXTS = ("envelope", "payload")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One delivery with all that is known of it."""

    delivery: Delivery  #: With its event.
    attempts: tuple[Attempt, ...]  #: The first one first.
    operations: tuple[OperationItem, ...]  #: With their operations, the first one first.
    causes: tuple[Cause, ...]  #: What led to it, the nearest first.
    replays: tuple[Delivery, ...]  #: What repeats it, the newest first; without large texts.

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
    """Return the newest deliveries that match, at most *limit*, with their events: 2 queries."""
    found = filter.apply(with_holder(Delivery.objects.using(using or alias())))
    # For a join PostgreSQL may prefer to read all events there are. Routers may name another one.
    found = found.prefetch_related(Prefetch("event", Event._base_manager.using(found.db)))
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
    Return one delivery with all that is known of it: 3 queries.

    Args:
        id: A UUID, or as much of its beginning as tells it from all others.
        among: The deliveries that it has to be one of, and its causes and replays; None: all.
        using: Alias of the database that has it; None: that of *among*, or of the routers.

    Raises:
        OperationError: *id* is no beginning of a UUID, or of no delivery, or of several.
    """
    ledger = using or (among.db if among is not None else alias())
    every = Delivery.objects.using(ledger) if among is None else among
    first, last = _between(str(id))
    family = _family(first, last, with_number_held(with_holder(every)))
    key = only_one(str(id), sorted(key for key in family if first <= key <= last))
    if key is None:
        raise OperationError(
            f"cannot show delivery {str(id)!r}: expected one in the ledger, got: none of that id. "
            "It was pruned, or succeeded at once, which leaves no row."
        )
    attempts = Attempt.objects.using(ledger).filter(delivery=key).order_by("number")
    items = OperationItem.objects.using(ledger).filter(delivery=key)
    return DeliveryView(
        delivery=family[key],
        causes=causes_of(family[key], family),
        replays=replays_of(family[key], family),
        attempts=tuple(attempts),
        operations=tuple(items.select_related("operation").order_by("operation__started_at", "pk")),
    )


def _family(
    first: uuid.UUID, last: uuid.UUID, among: QuerySet[Delivery]
) -> dict[uuid.UUID, Delivery]:
    """
    Return the deliveries between two ids, and all that they have to do with.

    Large texts are read of those between them only.
    """
    is_meant = Q(pk__gte=first, pk__lte=last)
    own = {
        f"own_{name}": Case(When(is_meant, then=name), default=Value(""), output_field=TextField())
        for name in LARGE_TEXTS
    }
    wanted = family_between(first, last, most=NAMED_IDS, using=among.db)
    rows = among.filter(pk__in=wanted).select_related("event").annotate(**own)
    family = {row.pk: row for row in rows.defer(*LARGE_TEXTS)}
    for row in family.values():
        for name in LARGE_TEXTS:
            setattr(row, name, getattr(row, f"own_{name}"))
    return family


def matching(prefix: str, *, using: str | None = None) -> uuid.UUID | None:
    """
    Return the id that begins with *prefix*, or None: 1 query.

    Raises:
        OperationError: *prefix* is no beginning of a UUID, or that of several deliveries.
    """
    first, last = _between(prefix)  # A range of the primary key.
    rows = Delivery.objects.using(using or alias()).filter(pk__gte=first, pk__lte=last)
    return only_one(prefix, list(rows.order_by("pk").values_list("pk", flat=True)[:NAMED_IDS]))


def existing(keys: Sequence[uuid.UUID], *, using: str | None = None) -> set[uuid.UUID]:
    """Return those of *keys* that deliveries have: 1 query for each 500."""
    rows = Delivery.objects.using(using or alias()).order_by().values_list("pk", flat=True)
    chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
    return {key for chunk in chunks for key in rows.filter(pk__in=chunk)}


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


def _between(prefix: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the first and the last id that could begin with *prefix*."""
    digits = prefix.replace("-", "").lower()
    if not digits or len(digits) > HEX_DIGITS or set(digits) - set("0123456789abcdef"):
        raise OperationError(
            f"cannot find delivery {prefix!r}: expected a UUID or the beginning of one, got: "
            "another text. `manage.py async_signals list` shows ids to copy."
        )
    first, last = (uuid.UUID(digits.ljust(HEX_DIGITS, filler)) for filler in "0f")
    return first, last
