"""
What the relay finds to do: rows whose time has come, taken so that no other relay takes them.

Only the database's clock counts. Rows are locked, changed and let go in one short transaction;
nothing is published inside it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.db.models import F, Q

from ..models import Delivery, State
from ..wire.envelope import Reference
from . import begin_writing, locked
from .causes import chains_of
from .clock import Now
from .deaths import record_death, seen_together
from .pace import LONGEST_REPUBLISH, REPUBLISH, without_waiting
from .throttle import exhausted, take_tokens
from .turns import end, held, leave, let_pass, next_of, passes, put_aside

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Collection, Mapping

    from .deaths import Death

__all__ = [
    "REPUBLISH",
    "give_back",
    "mark_run",
    "mark_taken",
    "put_off",
    "seconds_to_next",
    "take_due",
    "take_next",
]

#: What is read of a delivery that is due, of which there may be thousands a second: no times, which
#: drivers are slow to read.
_COLUMNS = ("pk", "receiver", "state", "epoch", "publishes", "replay_of_id", "size")
#: And of one whose worker has died.
_OF_THE_DEAD = (
    *("pk", "event_id", "receiver", "sent_at", "epoch", "deaths"),
    *("worker", "started_at", "fingerprint", "replay_of_id"),
)

#: What comes back no faster than ``RETRY_RATE``: it was run before, also where a person has let it
#: begin anew, or repeats another one.
_RUN_AGAIN = Q(epoch__gt=0) | Q(replay_of__isnull=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is to be published."""

    reference: Reference
    is_bundle: bool = False  #: It stands for others, which are told of when a worker has it.


def take_due(
    using: str,
    *,
    receivers: Collection[str],
    limit: int,
    without: Collection[str] = (),
    spacing: Callable[[str], float] | None = None,
) -> tuple[list[Due], list[Death], frozenset[str] | None]:
    """
    Mark deliveries that are due as published, and return what to publish.

    Args:
        using: Alias of the ledger's database.
        receivers: Names, and aliases, of those that this process can publish to.
        limit: At most so many.
        without: Names of those whose retries are left out.
        spacing: Seconds between two runs of the receiver of that name; 0, and where nothing is
            given: it has no rate limit.

    Returns:
        What to publish, those whose workers had died, and, where there may be more, the names of
        those whose retries stand before it; None: there is no more.
    """
    limit = min(limit, (connections[using].features.max_query_params or 10_000) - 10)
    # Else what has to wait would stand before what need not.
    waiting = Q(receiver__in={*exhausted(using), *without}) & _RUN_AGAIN
    # No delivery runs for ever: a death needs no receiver, where that is paused or unknown, too.
    wanted = Q(receiver__in=receivers) & ~waiting | Q(state=State.RUNNING)
    with transaction.atomic(using=using):
        rows = list(
            locked(
                Delivery._base_manager.using(using).filter(wanted, due_at__lte=Now()),
                using,
            )
            .values_list(*_COLUMNS, named=True)
            .order_by("due_at")[:limit]
        )
        if not rows:
            return [], [], None
        turns = held([row.pk for row in rows], using)
        dead = _read([row.pk for row in rows if row.state == State.RUNNING], _OF_THE_DEAD, using)
        chains = chains_of([row.pk for row in dead], using)
        deaths = seen_together(
            [record_death(row, using, chain=chains.get(str(row.pk), ())) for row in dead], using
        )
        for row, death in zip(dead, deaths, strict=True):
            if row.pk in turns:
                leave(row.pk, using, is_over=death.is_final and passes(row.receiver))
        ready = [row for row in rows if row.state != State.RUNNING]
        waiting_for_others = [row for row in ready if turns.get(row.pk)]
        _put_aside(waiting_for_others, using)
        # What failed under an older release, which was to hold them.
        let_pass([row.pk for row in waiting_for_others if passes(row.receiver)], using)
        ready = [row for row in ready if not turns.get(row.pk)]
        if spacing is not None:
            ready = without_waiting(ready, spacing, using)
        ready, refused = _within_rate(ready, using)
        _mark_published(ready, using)
    more = None
    if len(rows) == limit:
        more = refused.union(without) if refused else frozenset()
    return [_due(row, using, turns) for row in ready], deaths, more


def take_next(key: str, using: str, *, receivers: Collection[str]) -> list[Due]:
    """
    Mark the delivery whose turn it is as published, where it waits for nothing else.

    Args:
        key: Of those that run one after the other.
        using: Alias of the ledger's database.
        receivers: As in ``take_due()``.
    """
    with transaction.atomic(using=using):
        begin_writing(using)
        following = next_of(key, using)
        if following is None:
            return []
        rows = Delivery._base_manager.using(using).filter(pk=following, receiver__in=receivers)
        # Not past a lock: who has it may be about to put it aside.
        found = list(rows.select_for_update().values_list(*_COLUMNS, named=True))
        turns = held([row.pk for row in found], using)
        ready = [row for row in found if row.state == State.PENDING and turns.get(row.pk) is False]
        ready, _ = _within_rate(ready, using)
        _mark_published(ready, using)
    return [_due(row, using, turns) for row in ready]


def _read(keys: list[uuid.UUID], columns: tuple[str, ...], using: str) -> list[Any]:
    """Read more of some that are locked already."""
    if not keys:
        return []
    rows = Delivery._base_manager.using(using).filter(pk__in=keys).order_by("due_at")
    return list(rows.values_list(*columns, named=True))


def _due(row: Any, using: str, turns: Mapping[uuid.UUID, bool]) -> Due:
    reference = Reference(
        id=str(row.pk),
        receiver=row.receiver,
        epoch=row.epoch,
        using=using,
        ordered=row.pk in turns,
    )
    return Due(reference, is_bundle=row.size > 1)


def _put_aside(rows: list[Any], using: str) -> None:
    """Look again at what is held for as long as it has waited; what ends a turn is faster."""
    by_wait: dict[int, list[Any]] = {}
    for row in _read([row.pk for row in rows], ("pk", "due_at", "sent_at"), using):
        waited = (row.due_at - row.sent_at).total_seconds() if row.due_at is not None else 0.0
        doublings = min(10, max(0, int(waited // REPUBLISH)).bit_length())
        wait = min(LONGEST_REPUBLISH, REPUBLISH * 2**doublings)
        by_wait.setdefault(wait, []).append(row.pk)
    for wait, pks in by_wait.items():
        Delivery._base_manager.using(using).filter(pk__in=pks).update(
            state=State.PENDING,
            publishes=0,
            due_at=Now() + dt.timedelta(seconds=wait * random.uniform(0.8, 1.2)),  # noqa: S311
        )
        put_aside(pks, using)


def seconds_to_next(using: str, *, within: float) -> float:
    """Return when the next delivery is due that is not yet, at most *within* seconds."""
    later = Delivery._base_manager.using(using).filter(due_at__gt=Now()).annotate(now=Now())
    for due_at, now in later.order_by("due_at").values_list("due_at", "now")[:1]:
        if due_at is not None:
            return min(within, max(0.0, (due_at - now).total_seconds()))
    return within


def give_back(ids: Collection[str], using: str, *, wait: float) -> None:
    """Let deliveries that the broker did not take be due again in *wait* seconds."""
    Delivery._base_manager.using(using).filter(pk__in=list(ids), state=State.PUBLISHED).update(
        state=State.PENDING,
        publishes=F("publishes") - 1,
        due_at=Now() + dt.timedelta(seconds=wait),
    )


def put_off(id: str, using: str, *, wait: float, longest: float) -> None:  # noqa: A002
    """
    Let a delivery that came to a worker which cannot run it be due again in *wait* seconds.

    In twice as many each time that it comes back, up to *longest*, until one has claimed it.
    """
    rows = Delivery._base_manager.using(using).filter(pk=id, state=State.PUBLISHED)
    for publishes in rows.values_list("publishes", flat=True):
        seconds = min(longest, wait * 2 ** min(max(0, publishes - 1), 10))
        rows.update(state=State.PENDING, due_at=Now() + dt.timedelta(seconds=seconds))


def mark_run(ids: Collection[str], using: str) -> None:
    """Write that deliveries have run where they were sent, as they do in tests."""
    Delivery._base_manager.using(using).filter(pk__in=list(ids), epoch=0).update(
        state=State.SUCCEEDED, due_at=None, finished_at=Now()
    )
    end(ids, using)


def mark_taken(ids: Collection[str], using: str) -> None:
    """Write that the broker has deliveries that were to wait, unless a worker was faster."""
    rows = Delivery._base_manager.using(using).filter(pk__in=list(ids), state=State.PENDING)
    rows.filter(epoch=0).update(
        state=State.PUBLISHED,
        publishes=F("publishes") + 1,
        published_at=Now(),
        due_at=Now() + dt.timedelta(seconds=REPUBLISH),
    )


def _within_rate(rows: list[Any], using: str) -> tuple[list[Any], frozenset[str]]:
    """Return the rows that may be published now, and the receivers of others, which stay due."""
    allowed = []
    again: dict[str, list[Any]] = {}
    for row in rows:
        if row.epoch or row.replay_of_id is not None:  # As _RUN_AGAIN has it.
            again.setdefault(row.receiver, []).append(row)
        else:
            allowed.append(row)
    refused = set()
    for receiver in sorted(again):  # In one order, so that relays do not wait in a circle.
        granted = take_tokens(receiver, len(again[receiver]), using)
        allowed += again[receiver][:granted]
        if granted < len(again[receiver]):
            refused.add(receiver)
    return allowed, frozenset(refused)


def _mark_published(rows: list[Any], using: str) -> None:
    by_publishes: dict[int, list[Any]] = {}
    for row in rows:
        by_publishes.setdefault(row.publishes, []).append(row.pk)
    for publishes, pks in by_publishes.items():
        wait = min(LONGEST_REPUBLISH, REPUBLISH * 2 ** min(publishes, 10))
        Delivery._base_manager.using(using).filter(pk__in=pks).update(
            state=State.PUBLISHED,
            publishes=F("publishes") + 1,
            published_at=Now(),
            due_at=Now() + dt.timedelta(seconds=wait * random.uniform(0.8, 1.2)),  # noqa: S311
        )
