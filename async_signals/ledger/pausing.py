"""Which receivers are paused: their deliveries wait, and none fails."""

from __future__ import annotations

import time

from django.db import DatabaseError, InterfaceError, connections

from ..models import Pause
from . import alias

__all__ = ["FRESH", "forget", "paused"]

#: Seconds for which a process believes what it has read: a pause holds everywhere after that.
FRESH = 1.0

#: What was read, and when by ``time.monotonic()``. One tuple, so that threads see both or none.
_read: tuple[frozenset[str], float] | None = None


def paused() -> frozenset[str]:
    """
    Return the names of the paused receivers, at most ``FRESH`` seconds old.

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


def forget() -> None:
    """Let the next ``paused()`` of this process read again."""
    global _read  # noqa: PLW0603
    _read = None
