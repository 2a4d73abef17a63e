"""Databases that are not there for a moment: deadlocks, lost connections, a failover."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["patiently"]

T = TypeVar("T")

#: Seconds between tries; their sum is how long a database may be away unnoticed.
PAUSES = (0.05, 0.2, 0.5, 1, 2)


def _nothing() -> None:
    """Find nothing, where it does no harm to write again what is written."""


def patiently(write: Callable[[], T], using: str, *, found: Callable[[], T | None] = _nothing) -> T:
    """
    Call *write*, again where the database refused it for a reason that passes.

    Args:
        write: A transaction of its own, so that a refused one has left nothing.
        using: Alias of the database.
        found: Called before *write* is called again: what it would return, where the database has
            committed it, and only the answer was lost; else something false.

    Raises:
        DatabaseError: What the last try raised.
    """

    def again() -> T:
        return found() or write()

    attempt = write
    for pause in PAUSES:
        try:
            return attempt()
        except (OperationalError, InterfaceError, InternalError):  # The last: it is read-only.
            connection = connections[using]
            if connection.in_atomic_block:
                raise  # The transaction around it is lost, whoever opened it.
            connection.close()
            time.sleep(pause)
            attempt = again
    return attempt()
