"""
A connection for claims and receipts that stays open between the tasks of a worker's process.

Celery closes Django's connections before and after each task, and opening one costs more than
everything that is done on it. So each process of a worker has one more connection, which only
these two statements use.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, InternalError, OperationalError

from ..delivery import at_work
from .prepared import PreparedStatements

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["execute", "open_standing"]

#: By process and alias: a fork must not use its parent's.
_standing: dict[tuple[int, str], _Standing] = {}


def execute(sql: str, parameters: tuple[Any, ...], site: BaseDatabaseWrapper) -> int:
    """
    Execute one statement, and return the number of rows that it has changed.

    Args:
        sql: With ``%s`` for each parameter.
        parameters: As many.
        site: The site's own connection to the database, which is used where no other one stands.

    Raises:
        DatabaseError: As any cursor.
    """
    standing = _standing_beside(site)
    if standing is not None:
        return standing.execute(sql, parameters)
    with site.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def open_standing(site: BaseDatabaseWrapper) -> None:
    """Give this process such a connection, where it helps: in a worker's own main thread."""
    key = os.getpid(), site.alias
    # Pools of threads and greenlets would keep one for each; SQLite opens files in no time.
    is_process = at_work.get() and threading.current_thread() is threading.main_thread()
    if is_process and key not in _standing and site.vendor != "sqlite":
        _standing[key] = _Standing(site)


class _Standing:
    def __init__(self, site: BaseDatabaseWrapper) -> None:
        self._connection = site.copy(site.alias)
        settings = site.settings_dict
        # What sites set for a pool of connections, which knows nothing of prepared statements.
        is_pooled = settings.get("DISABLE_SERVER_SIDE_CURSORS") or settings["OPTIONS"].get("pool")
        #: Whether the server plans its statements once.
        self._is_prepared = site.vendor == "postgresql" and not is_pooled and _has_psycopg_3()
        self._statements: PreparedStatements | None = None

    def execute(self, sql: str, parameters: tuple[Any, ...]) -> int:
        connection = self._connection
        try:
            if self._is_prepared:
                with contextlib.suppress(LookupError):
                    return self._execute_prepared(sql, parameters)
                self._is_prepared = False  # A pool that the settings do not tell of.
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return int(cursor.rowcount)
        except (OperationalError, InterfaceError, InternalError):  # The last: it is read-only.
            self._statements = None
            connection.close()  # The next statement opens another one.
            raise

    def _execute_prepared(self, sql: str, parameters: tuple[Any, ...]) -> int:
        connection = self._connection
        with connection.wrap_database_errors:
            if self._statements is None:
                connection.ensure_connection()
                self._statements = PreparedStatements(connection.connection)
            return self._statements.execute(sql, parameters)


def _standing_beside(site: BaseDatabaseWrapper) -> _Standing | None:
    """Return the one that is used here: not outside of tasks, nor beside a transaction."""
    if site.in_atomic_block or not at_work.get():
        return None
    return _standing.get((os.getpid(), site.alias))


def _has_psycopg_3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415  (a driver)

    return bool(is_psycopg3)
