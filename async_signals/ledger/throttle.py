"""How fast retries come back: a token bucket for each receiver, which all relays share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections

from ..conf import get_settings
from ..models import Throttle
from .clock import Now

if TYPE_CHECKING:
    from django.db.models import QuerySet

__all__ = ["exhausted", "take_tokens"]


def take_tokens(receiver: str, wanted: int, using: str) -> int:
    """
    Take up to *wanted* tokens, and return how many there were; inside a transaction.

    ``RETRY_RATE`` tokens a second are added, up to those of one second.
    """
    rate = get_settings().retry_rate
    rows: QuerySet[Throttle] = Throttle._base_manager.using(using)
    rows.bulk_create(
        [Throttle(receiver=receiver, tokens=max(1, rate), filled_at=Now())], ignore_conflicts=True
    )
    if connections[using].features.has_select_for_update:
        rows = rows.select_for_update()
    bucket = rows.annotate(now=Now()).get(pk=receiver)
    seconds = max(0.0, (bucket.now - bucket.filled_at).total_seconds())
    tokens = min(max(1, rate), bucket.tokens + seconds * rate)
    granted = min(wanted, int(tokens))
    rows.filter(pk=receiver).update(tokens=tokens - granted, filled_at=bucket.now)
    return granted


def exhausted(using: str) -> list[str]:
    """Return the receivers that have no token now."""
    rate = get_settings().retry_rate
    buckets = Throttle._base_manager.using(using).filter(tokens__lt=1).annotate(now=Now())
    return [
        bucket.receiver
        for bucket in buckets
        if bucket.tokens + (bucket.now - bucket.filled_at).total_seconds() * rate < 1
    ]
