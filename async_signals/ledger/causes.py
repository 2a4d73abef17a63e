"""Which receivers have caused the deliveries in the ledger, for those who are told of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..exceptions import EnvelopeError
from ..models import Delivery
from ..wire.envelope import BETWEEN, load

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["chains_of"]


def chains_of(ids: Collection[Any], using: str) -> dict[str, tuple[str, ...]]:
    """Return the chains of those deliveries that a receiver has caused; no other one is read."""
    if not ids:
        return {}
    rows = Delivery._base_manager.using(using).filter(pk__in=ids, event__cause__isnull=False)
    chains = {}
    for pk, envelope in rows.values_list("pk", "envelope"):
        with contextlib.suppress(EnvelopeError):  # Nobody can run it, either.
            chains[str(pk)] = load(envelope.partition(BETWEEN)[0]).chain
    return chains
