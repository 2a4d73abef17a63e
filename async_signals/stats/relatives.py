"""Which of some deliveries led to one of them, and which repeat it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..ledger.family import REPLAYS, highest

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from ..models import Delivery

__all__ = ["Cause", "causes_of", "replays_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A delivery whose receiver sent the next event."""

    key: uuid.UUID
    delivery: Delivery | None  #: None: it succeeded at once, was pruned, or may not be seen.


def causes_of(delivery: Delivery, family: Mapping[uuid.UUID, Delivery]) -> tuple[Cause, ...]:
    """Return what led to a delivery, the nearest first; of *family* with their events."""
    causes: dict[uuid.UUID, Cause] = {}
    key = delivery.event.cause
    # In a circle, which nothing writes, it ends where it has been.
    while key is not None and key not in causes and len(causes) < highest():
        found = family.get(key)
        causes[key] = Cause(key=key, delivery=found)
        key = found.event.cause if found is not None else None
    return tuple(causes.values())


def replays_of(delivery: Delivery, family: Mapping[uuid.UUID, Delivery]) -> tuple[Delivery, ...]:
    """Return the replays of a delivery, the newest first."""
    found = [row for row in family.values() if row.replay_of_id == delivery.pk]
    return tuple(sorted(found, key=lambda row: row.pk, reverse=True)[:REPLAYS])
