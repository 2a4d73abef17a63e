"""What stands on the other databases: a list shows those of one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections

from ..ledger import alias, aliases
from ..models import LIVE_STATES, Delivery, State

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Elsewhere", "elsewhere"]

#: More of each are not counted.
CAP = 10_001


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What is not done on one more database."""

    database: str  #: Its alias.
    failed: int  #: Deliveries that wait for a person; at most ``CAP``.
    waiting: int  #: Deliveries that are on their way; at most ``CAP``.


def elsewhere(*, using: str | None = None) -> Iterator[Elsewhere]:
    """
    Yield the databases beside *using* that have deliveries which are not done: 2 queries on each.

    One that does not answer is left out: ``doctor`` tells of it.
    """
    here = using or alias()
    for database in aliases():
        if database != here:
            try:
                found = _unfinished(database)
            except (DatabaseError, InterfaceError):
                if not connections[database].in_atomic_block:
                    connections[database].close()
                continue
            if found.failed or found.waiting:
                yield found


def _unfinished(database: str) -> Elsewhere:
    rows = Delivery.objects.using(database)
    return Elsewhere(
        database=database,
        failed=rows.filter(state=State.FAILED)[:CAP].count(),
        waiting=rows.filter(state__in=LIVE_STATES)[:CAP].count(),
    )
