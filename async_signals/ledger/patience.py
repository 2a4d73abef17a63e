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


def patiently(write: Callable[[], T], using: str) -> T:
    """
    Call *write*, again where the database refused it for a reason that passes.

    *write* must be a transaction of its own, so that a refused one has left nothing.

    Raises:
        DatabaseError: What the last try raised.
    """
    for pause in PAUSES:
        try:
            return write()
        except (OperationalError, InterfaceError, InternalError):  # The last: it is read-only.
            connection = connections[using]
            if connection.in_atomic_block:
                raise  # The transaction around it is lost, whoever opened it.
            connection.close()
            time.sleep(pause)
    return write()
