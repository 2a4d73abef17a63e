"""Tell of what is recorded as failed without an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..announcing import announce
from ..callbacks import on_commit_first
from ..signals import delivery_failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.envelope import Envelope
    from .failures import Failure

__all__ = ["tell_failed"]


def tell_failed(envelopes: Sequence[Envelope], failure: Failure, using: str) -> None:
    """Announce, once the transaction on *using* is committed, what no worker ever had."""

    def tell() -> None:
        for each in envelopes:
            announce(
                delivery_failed,
                each.as_delivery(attempt=0),
                using=using,
                fingerprint="",
                exception=None,
                failure=failure,
            )

    # A plain function: Django 5.2 and 6.0 cannot log what a partial raises.
    on_commit_first(tell, using)
