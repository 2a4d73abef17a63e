"""What may happen once, however often it is asked for at the same time."""

from __future__ import annotations

import datetime as dt
import hashlib

from django.db import IntegrityError, transaction

from ..models import UniqueEvent
from .clock import Now

__all__ = ["is_first"]


def is_first(text: str, *, seconds: float, using: str) -> bool:
    """
    Whether nobody else has asked about *text* before; of many at the same time, one is first.

    Args:
        text: What is to happen once; it is not stored, its SHA-256 is.
        seconds: How long that is remembered.
        using: Alias of the ledger's database.
    """
    key = hashlib.sha256(text.encode()).hexdigest()
    try:
        with transaction.atomic(using=using):
            UniqueEvent.objects.using(using).create(
                key=key, expires_at=Now() + dt.timedelta(seconds=seconds)
            )
    except IntegrityError:
        return False
    return True
