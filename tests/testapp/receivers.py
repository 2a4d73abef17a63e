"""Receivers that a worker process runs for the tests; each reports what it got."""

from __future__ import annotations

import os

from async_signals import async_receiver, current_delivery

from . import signals
from .reports import report


@async_receiver(signals.reported)
def plain(sender, **kwargs):
    delivery = current_delivery()
    report(
        receiver="plain",
        number=kwargs.get("number"),
        pid=os.getpid(),
        delivery=delivery.id,
        attempt=delivery.attempt,
    )
