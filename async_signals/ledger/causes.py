"""What those are told who listen: deliveries of the ledger, with the receivers that caused them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..exceptions import EnvelopeError
from ..models import Delivery
from ..wire.envelope import unbundled
from .records import delivery_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from .. import delivery as delivery_of_user

__all__ = ["chains_of", "told_of"]


def chains_of(ids: Collection[Any], using: str) -> dict[str, tuple[str, ...]]:
    """Return the chains of those deliveries that a receiver has caused; no other one is read."""
    if not ids:
        return {}
    rows = Delivery._base_manager.using(using).filter(pk__in=ids, event__cause__isnull=False)
    chains = {}
    for pk, envelope, size in rows.values_list("pk", "envelope", "size"):
        with contextlib.suppress(EnvelopeError):  # Nobody can run it, either.
            chains[str(pk)] = unbundled(envelope, size)[0].chain
    return chains


def told_of(attempts: Mapping[str, int], using: str) -> list[delivery_of_user.Delivery]:
    """Return what signals are told about deliveries, by id the number of the attempt: 2 queries."""
    chains = chains_of(attempts.keys(), using)
    rows = Delivery._base_manager.using(using).filter(pk__in=attempts.keys()).order_by("pk")
    columns = ("pk", "event_id", "receiver", "sent_at", "replay_of_id")
    return [
        delivery_of(row, attempt=attempts[str(row.pk)], chain=chains.get(str(row.pk), ()))
        for row in rows.values_list(*columns, named=True)
    ]
