"""
What waits in the broker because its receiver has a rate limit, and is not to be taken for lost.

The two look the same from here. A copy of what waits would cost as much of the rate as the run of
another delivery, so only the first in the line is published again, once its time is over: of a
backlog there are next to no copies. What was lost comes back in its order, as fast as it can run.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from ..models import Delivery, State
from .clock import Now

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

__all__ = ["LONGEST_REPUBLISH", "REPUBLISH", "without_waiting"]

#: Seconds after which a published delivery that nobody has claimed is published again, at first.
REPUBLISH = 60
#: Seconds that this grows to, doubling.
LONGEST_REPUBLISH = 3600

#: Deliveries of one receiver whose places in the line are read, at most; others are far behind.
LONGEST_LINE = 10_000
#: Seconds of work that still count as the first place: of a fast receiver not one by one.
FIRST = 5.0


def without_waiting(rows: list[Any], spacing: Callable[[str], float], using: str) -> list[Any]:
    """
    Return *rows*, which are due and locked, without those that wait for their receiver's rate.

    These are due again a minute after the time that the line before them takes at that rate, and
    in half an hour where that is more than an hour; or, behind all that is read of the line, after
    the time that this takes.

    Args:
        rows: Of deliveries, published or not.
        spacing: Seconds between two runs of the receiver of that name; 0: it has no rate limit.
        using: Alias of the ledger's database.
    """
    published: dict[str, list[uuid.UUID]] = {}
    for row in rows:
        if row.state == State.PUBLISHED:
            published.setdefault(row.receiver, []).append(row.pk)
    waiting: set[uuid.UUID] = set()
    for receiver, pks in published.items():
        seconds = spacing(receiver)
        if seconds:
            waiting |= _put_off(receiver, pks, seconds, using)
    return [row for row in rows if row.pk not in waiting]


def _put_off(receiver: str, pks: list[uuid.UUID], seconds: float, using: str) -> set[uuid.UUID]:
    """Let those of *pks* be due later that are not lost yet, and return them."""
    longest = max(LONGEST_REPUBLISH, 4 * seconds)
    rows = Delivery._base_manager.using(using).filter(receiver=receiver, state=State.PUBLISHED)
    length = min(LONGEST_LINE, int(longest / seconds) + 1)
    line = rows.order_by("sent_at").values_list("pk", flat=True)[:length]
    places = {pk: place for place, pk in enumerate(line)}
    first = [pk for pk in pks if places.get(pk, length) * seconds <= FIRST]
    # It may have come to the first place just now, and have one run's time before it.
    over = rows.filter(pk__in=first, published_at__lte=Now() - dt.timedelta(seconds=seconds))
    waiting = set(pks).difference(over.values_list("pk", flat=True) if first else ())
    near = [
        Delivery(pk=pk, due_at=Now() + dt.timedelta(seconds=wait))
        for pk in waiting.intersection(places)
        if (wait := REPUBLISH + (places[pk] + 1) * seconds) <= longest
    ]
    far = waiting.difference(each.pk for each in near)
    if near:
        Delivery._base_manager.using(using).bulk_update(near, ["due_at"])
    if far:  # Half: they are not to come back when they are the first, and about to run.
        wait = min(longest / 2, REPUBLISH + length * seconds)
        rows.filter(pk__in=far).update(due_at=Now() + dt.timedelta(seconds=wait))
    return waiting
