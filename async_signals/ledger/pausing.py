"""Which receivers are paused: their deliveries wait, and none fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Case, OuterRef, Subquery, When

from .. import registry
from ..models import Pause
from . import alias

if TYPE_CHECKING:
    from typing import Any

    from django.db.models import QuerySet

__all__ = ["FRESH", "forget", "paused", "standing", "with_pause"]

#: Seconds for which a process believes what it has read: a pause holds everywhere after that.
FRESH = 1.0

#: What was read, and when by ``time.monotonic()``. One tuple, so that threads see both or none.
_read: tuple[frozenset[str], float] | None = None


def paused() -> frozenset[str]:
    """
    Return the names of the paused receivers, at most ``FRESH`` seconds old.

    Each is the one that it had then: a receiver is paused if one of its names is among them.
    While the ledger cannot be asked, what was read last holds: deliveries may stand elsewhere.
    """
    global _read  # noqa: PLW0603
    now, read = time.monotonic(), _read
    if read is None or now - read[1] >= FRESH:
        rows = Pause.objects.using(alias()).values_list("receiver", flat=True)
        try:
            names = frozenset(rows)
        except (DatabaseError, InterfaceError):
            if read is None or connections[alias()].in_atomic_block:
                raise
            connections[alias()].close()
            names = read[0]
        _read = read = names, now
    return read[0]


def standing(receiver: str, using: str) -> list[str]:
    """Return the names under which *receiver* is paused: usually one, or none."""
    names = registry.names_of(receiver)
    rows = Pause.objects.using(using).filter(receiver__in=names)
    # Looked at again: MariaDB takes names for one that differ in their capitals only.
    return [name for name in rows.values_list("receiver", flat=True) if name in names]


def with_pause(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return deliveries, each with the name in ``paused_as`` under which its receiver may be."""
    pauses = Pause.objects.using(rows.db).values("receiver")
    annotated: QuerySet[Any] = rows.annotate(
        paused_as=Case(
            *(
                When(receiver__in=names, then=Subquery(pauses.filter(receiver__in=names)[:1]))
                for names in registry.renamed()
            ),
            default=Subquery(pauses.filter(receiver=OuterRef("receiver"))[:1]),
        )
    )
    return annotated


def forget() -> None:
    """Let the next ``paused()`` of this process read again."""
    global _read  # noqa: PLW0603
    _read = None
