"""Failures that are one and the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from django.db.models import Count, DateTimeField, Exists, Min, OuterRef, Q, Value

from ..ledger import alias
from ..models import LIVE_STATES, Delivery, FailureGroup, State

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from django.db.models import QuerySet

__all__ = ["Group", "Standing", "failures", "holding_up", "standing"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Failures that are one and the same, and the deliveries that it holds up now."""

    fingerprint: str
    receiver: str
    exception: str  #: Import path of its class.
    message: str  #: Of the first one, masked.
    failed: int  #: Deliveries that wait for a person.
    waiting: int  #: Deliveries that will be attempted again by themselves.
    first_at: dt.datetime
    last_at: dt.datetime
    next_at: dt.datetime | None  #: When the first of the waiting ones is due; None: none waits.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many deliveries a group of failures holds up now."""

    failed: int  #: Deliveries that wait for a person.
    waiting: int  #: Deliveries that will be attempted again by themselves.
    next_at: dt.datetime | None  #: When the first of the waiting ones is due; None: none waits.


def failures(
    *, since: dt.datetime | None = None, limit: int = 50, using: str | None = None
) -> list[Group]:
    """
    Return the groups that hold up deliveries, the one that failed last first: 2 queries.

    Args:
        since: Leave out groups that did not fail since then; aware.
        limit: How many groups at most.
        using: Alias of the database that has them; None: that of the routers.
    """
    ledger = using or alias()
    groups = holding_up(FailureGroup.objects.using(ledger))
    if since is not None:
        groups = groups.filter(last_at__gte=since)
    found = list(groups.order_by("-last_at", "fingerprint")[:limit])
    if not found:
        return []
    standings = standing((group.fingerprint for group in found), using=ledger)
    return [
        Group(
            fingerprint=group.fingerprint,
            receiver=group.receiver,
            exception=group.exception,
            message=group.message,
            failed=standings[group.fingerprint].failed,
            waiting=standings[group.fingerprint].waiting,
            first_at=group.first_at,
            last_at=group.last_at,
            next_at=standings[group.fingerprint].next_at,
        )
        for group in found
    ]


def holding_up(groups: QuerySet[FailureGroup]) -> QuerySet[FailureGroup]:
    """Return those of *groups* that hold up deliveries."""
    held_up = Delivery.objects.using(groups.db).filter(state__in=(State.FAILED, *LIVE_STATES))
    return groups.filter(Exists(held_up.filter(fingerprint=OuterRef("fingerprint"))))


def standing(fingerprints: Iterable[str], *, using: str | None = None) -> dict[str, Standing]:
    """Return how the group of each fingerprint stands: 1 query."""
    wanted = list(fingerprints)
    if not wanted:
        return {}
    rows_there = Delivery.objects.using(using or alias())
    held_up = rows_there.filter(fingerprint__in=wanted).order_by()
    live = held_up.filter(state__in=LIVE_STATES).values_list("fingerprint")
    failed = held_up.filter(state=State.FAILED).values_list("fingerprint")
    # Two halves: the failed ones, which may be many, are counted in the index alone.
    rows = live.annotate(
        failed=Value(0), waiting=Count("*"), next=Min("due_at", filter=Q(state=State.PENDING))
    ).union(
        failed.annotate(
            failed=Count("*"), waiting=Value(0), next=Value(None, output_field=DateTimeField())
        ),
        all=True,
    )
    found = {key: Standing(failed=0, waiting=0, next_at=None) for key in wanted}
    for key, number, waiting, next_at in rows:
        found[key] = Standing(
            failed=found[key].failed + number,
            waiting=found[key].waiting + waiting,
            next_at=next_at or found[key].next_at,
        )
    return found
