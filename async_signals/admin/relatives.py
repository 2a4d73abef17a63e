"""Deliveries that one delivery has to do with: what caused it, and what repeats it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef

from ..conf import get_settings
from ..models import Delivery, Pause

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet

__all__ = ["Cause", "causes_of", "replays_of", "with_relatives"]

#: Replays that a page names.
REPLAYS = 50


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A delivery whose receiver sent the next event."""

    key: uuid.UUID
    delivery: Delivery | None  #: None: it succeeded at once, or was pruned.


def with_relatives(queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Let each delivery know whether there are replays of it, and whether its receiver waits."""
    using = queryset.db
    replays = Delivery.objects.using(using).filter(replay_of=OuterRef("pk"))
    pauses = Pause.objects.using(using).filter(receiver=OuterRef("receiver"))
    return queryset.annotate(has_replays=Exists(replays), is_paused=Exists(pauses))


def replays_of(delivery: Delivery, using: str) -> list[Delivery]:
    """Return the newest replays of a delivery: 1 query."""
    rows = Delivery.objects.using(using).filter(replay_of=delivery.pk).order_by("-pk")
    return list(rows.only("receiver", "state")[:REPLAYS])


def causes_of(delivery: Delivery, using: str) -> list[Cause]:
    """Return what led to a delivery, the nearest first: 1 query for each step up."""
    causes: list[Cause] = []
    key = delivery.event.cause
    # As deep as receivers may cause themselves, and then some.
    while key is not None and len(causes) < 2 * get_settings().max_recursion:
        rows = Delivery.objects.using(using).select_related("event").filter(pk=key)
        found = rows.only("receiver", "state", "event__cause").first()
        causes.append(Cause(key=key, delivery=found))
        key = found.event.cause if found is not None else None
    return causes
