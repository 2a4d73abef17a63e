"""Which deliveries an operation works on: chosen once, before it begins."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

from django.db.models import Q

from ..ledger.clock import Now
from ..models import LIVE_STATES, Delivery, Operation, State
from ..stats import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.db.models import QuerySet


__all__ = ["BATCH", "CHUNK", "FrozenSet", "candidates", "freeze", "in_time"]

#: Deliveries that are changed in one transaction.
BATCH = 500
#: Ids that are read at once.
CHUNK = 10_000

_WIDTH = 16  # Bytes of a UUID.

#: What a filter means that names neither ids nor a state. Who retries all of a receiver does
#: not ask for what was discarded, nor is told of each success.
_MEANT = {
    Operation.Verb.RETRY: (State.FAILED, *LIVE_STATES),
    Operation.Verb.DISCARD: (State.FAILED, *LIVE_STATES),
}


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSet:
    """Ids of deliveries, in 16 bytes each, so that a million of them fit anywhere."""

    packed: bytes
    target: str  #: How they were chosen, in words.

    def __str__(self) -> str:
        return self.target

    def __len__(self) -> int:
        return len(self.packed) // _WIDTH

    def batches(self) -> Iterator[list[uuid.UUID]]:
        """Yield the ids in their order, ``BATCH`` at a time."""
        for start in range(0, len(self.packed), BATCH * _WIDTH):
            batch = self.packed[start : start + BATCH * _WIDTH]
            yield [uuid.UUID(bytes=batch[at : at + _WIDTH]) for at in range(0, len(batch), _WIDTH)]

    def first(self, limit: int | None) -> FrozenSet:
        """Return the first *limit* of them; None: all."""
        cut = None if limit is None else limit * _WIDTH
        return dataclasses.replace(self, packed=self.packed[:cut])


def candidates(verb: str, filter: Filter, *, using: str) -> QuerySet[Delivery]:  # noqa: A002
    """
    Return the deliveries that *verb* would look at.

    Without ids and without a state, ``retry`` and ``discard`` mean what failed or is still on its
    way; to retry what was discarded, name it, or its state.
    """
    found = filter.apply(Delivery.objects.using(using))
    if filter.ids is None and filter.state is None and verb in _MEANT:
        found = found.filter(state__in=_MEANT[Operation.Verb(verb)])
    return found


def in_time(
    outcomes: Mapping[State, tuple[bool, str]], outcomes_when_due: Mapping[State, tuple[bool, str]]
) -> Q:
    """Return which deliveries an operation changes, by their state, and where they are due."""
    is_due = Q(due_at__lte=Now())
    early, late = (
        [state for state, (changes, _) in each.items() if changes]
        for each in (outcomes, outcomes_when_due)
    )
    return (Q(state__in=early) & ~is_due) | (Q(state__in=late) & is_due)


def freeze(
    verb: str,
    filter: Filter | FrozenSet,  # noqa: A002
    *,
    using: str,
    limit: int | None = None,
) -> FrozenSet:
    """
    Return the ids of the deliveries that match now, the oldest first, at most *limit*.

    Ids that are named by themselves are all taken, so that each gets its answer; those that no
    delivery has come last. What is frozen already stays what it is.
    """
    if isinstance(filter, FrozenSet):
        return filter.first(limit)
    if filter.ids is not None and filter == Filter(ids=filter.ids):
        keys = _oldest_first(filter.keys, using)[:limit]
        return FrozenSet(b"".join(key.bytes for key in keys), str(filter))
    found = candidates(verb, filter, using=using).order_by("sent_at", "pk")
    ids = found.values_list("pk", flat=True)[:limit]
    packed = b"".join(key.bytes for key in ids.iterator(chunk_size=CHUNK))
    return FrozenSet(packed, str(filter))


def _oldest_first(keys: Sequence[uuid.UUID], using: str) -> list[uuid.UUID]:
    """Return the keys in the order in which a query of deliveries would have them."""
    rows = Delivery.objects.using(using).order_by().values_list("pk", "sent_at")
    sent_at = {
        key: sent
        for start in range(0, len(keys), BATCH)  # A query takes so many, but not any number.
        for key, sent in rows.filter(pk__in=keys[start : start + BATCH])
    }
    there = sorted(sent_at, key=lambda key: (sent_at[key], key))
    return [*there, *(key for key in keys if key not in sent_at)]
