"""What the search box finds: an id, the primary key of an object, or a receiver; by index."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ..ledger.mentions import meant_by
from ..models import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

__all__ = ["search"]


def search(queryset: QuerySet[Any], text: str, receivers: Iterable[str]) -> QuerySet[Any]:
    """
    Return the deliveries that *text* means; an empty text means all.

    Args:
        queryset: All deliveries.
        text: The id of a delivery or of an event; the primary key of an object, also with its
            model before it, ``shop.Order 12``; or a receiver, or a part of its name.
        receivers: Names that a part may mean.
    """
    text = text.strip().replace("\x00", "")
    if not text:
        return queryset
    meant = [name for name in receivers if text.lower() in name.lower()]
    if meant and not text.isdigit():
        return queryset.filter(receiver__in=meant)
    try:
        key = uuid.UUID(text)
    except ValueError:
        return queryset.filter(event__in=_events_about(text, queryset.db).values("pk"))
    return queryset.filter(pk__in=meant_by(key, text, using=queryset.db))


def _events_about(text: str, using: str) -> QuerySet[Event]:
    model, _, key = text.rpartition(" ")
    events = Event.objects.using(using).filter(instance_pk=key)
    return events.filter(instance_model__iexact=model.strip()) if model.strip() else events
