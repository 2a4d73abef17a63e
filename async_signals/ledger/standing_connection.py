"""
A connection for claims and receipts that stays open between the tasks of a worker's process.

Celery closes Django's connections before and after each task, and opening one costs more than
everything that is done on it. So each process of a worker has one more connection, which only
these two statements use.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, InternalError, OperationalError, connections

from ..delivery import at_work

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["execute", "is_transaction_of_its_own", "open_standing"]

#: By process and alias: a fork must not use its parent's.
_standing: dict[tuple[int, str], BaseDatabaseWrapper] = {}


def execute(sql: str, parameters: tuple[Any, ...], using: str) -> int:
    """
    Execute one statement, and return the number of rows that it has changed.

    Raises:
        DatabaseError: As any cursor.
    """
    standing = _standing.get((os.getpid(), using)) if _is_used_here(using) else None
    if standing is None:
        with connections[using].cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)
    try:
        with standing.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)
    except (OperationalError, InterfaceError, InternalError):  # The last: it is read-only.
        standing.close()  # The next statement opens another one.
        raise


def is_transaction_of_its_own(using: str) -> bool:
    """Whether a statement that is executed now stands alone."""
    return not connections[using].in_atomic_block


def open_standing(using: str) -> None:
    """Give this process such a connection, where it helps: in a worker's own main thread."""
    site = connections[using]
    # Pools of threads and greenlets would keep one for each; SQLite opens files in no time.
    is_process = at_work.get() and threading.current_thread() is threading.main_thread()
    if is_process and site.vendor != "sqlite" and (os.getpid(), using) not in _standing:
        _standing[os.getpid(), using] = standing = site.copy(using)
        _let_it_prepare(standing)


def _let_it_prepare(standing: BaseDatabaseWrapper) -> None:
    """Let the server plan the two statements once, where nothing stands between it and us."""
    settings = standing.settings_dict
    # What sites set for a pool of connections, which knows nothing of prepared statements.
    is_pooled = settings.get("DISABLE_SERVER_SIDE_CURSORS") or settings["OPTIONS"].get("pool")
    if standing.vendor == "postgresql" and not is_pooled and _has_psycopg_3():
        options = {**settings["OPTIONS"], "server_side_binding": True, "prepare_threshold": 1}
        standing.settings_dict = {**settings, "OPTIONS": options}


def _is_used_here(using: str) -> bool:
    return at_work.get() and not connections[using].in_atomic_block


def _has_psycopg_3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415  (a driver)

    return bool(is_psycopg3)
