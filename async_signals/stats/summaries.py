"""How all deliveries stand."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from django.db.models import Count, Exists, OuterRef

from .. import registry
from ..ledger import alias
from ..ledger.clock import Now
from ..models import Delivery, Pause, State, Turn

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

__all__ = ["ReceiverSummary", "Summary", "held_by_failures", "summary"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSummary:
    """How the deliveries of one receiver stand."""

    receiver: str
    states: Mapping[str, int]  #: Deliveries by state, every state named.
    is_paused: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How all deliveries in the ledger stand."""

    states: Mapping[str, int]  #: Deliveries by state, every state named.
    receivers: tuple[ReceiverSummary, ...]  #: Those with deliveries, or paused; by name.
    #: Of the live ones whose receiver is not paused; None: there are none.
    oldest_due_at: dt.datetime | None
    late: float  #: Seconds since then, by the database's clock; 0: nothing is overdue.


def summary(*, using: str | None = None) -> Summary:
    """Return how the deliveries of all receivers stand on one database: 3 queries."""
    ledger = using or alias()
    rows = Delivery.objects.using(ledger).order_by().values_list("receiver", "state")
    paused = list(Pause.objects.using(alias()).values_list("receiver", flat=True))
    waiting = frozenset(each for name in paused for each in registry.names_of(name))
    receivers = _by_receiver(rows.annotate(number=Count("*")), paused, waiting)
    totals = collections.Counter[str]()
    for each in receivers:
        totals.update(each.states)
    oldest = (
        Delivery.objects.using(ledger)
        .filter(due_at__isnull=False)
        .exclude(receiver__in=waiting)
        .order_by("due_at")
        .values_list("due_at", Now())
        .first()
    )
    return Summary(
        states=_every_state(totals),
        receivers=receivers,
        oldest_due_at=oldest[0] if oldest else None,
        late=max(0.0, (oldest[1] - oldest[0]).total_seconds()) if oldest else 0.0,
    )


def held_by_failures(*, using: str | None = None, cap: int = 10_001) -> int:
    """Return how many wait for their turn behind one that has failed, at most *cap*: 1 query."""
    turns = Turn.objects.using(using or alias())
    first = turns.filter(key=OuterRef("key"), pk__lt=OuterRef("pk"))
    return turns.filter(Exists(first.filter(delivery__state=State.FAILED)))[:cap].count()


def _by_receiver(
    rows: Iterable[tuple[str, str, int]], paused: Iterable[str], waiting: frozenset[str]
) -> tuple[ReceiverSummary, ...]:
    counts: dict[str, dict[str, int]] = {name: {} for name in paused}
    for receiver, state, number in rows:
        counts.setdefault(receiver, {})[state] = number
    return tuple(
        ReceiverSummary(receiver=name, states=_every_state(states), is_paused=name in waiting)
        for name, states in sorted(counts.items())
    )


def _every_state(states: Mapping[str, int]) -> dict[str, int]:
    return {state.value: states.get(state.value, 0) for state in State}
