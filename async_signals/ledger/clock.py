"""The database's clock, the only one that counts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import BooleanField, Case, Value, When, functions

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["CLOCKS", "Now", "is_past", "seconds_since"]

#: By vendor: the time, and that so many seconds later; each as ``Now()`` has it.
CLOCKS = {
    "postgresql": ("STATEMENT_TIMESTAMP()", "STATEMENT_TIMESTAMP() + %s * INTERVAL '1 second'"),
    "mysql": ("UTC_TIMESTAMP(6)", "UTC_TIMESTAMP(6) + INTERVAL %s SECOND"),
    "sqlite": (
        "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
        "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s || ' seconds')",
    ),
}


class Now(functions.Now):
    """Django's ``Now()``, and on MariaDB in UTC whatever the time zone of the session is."""

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        """Return the SQL, as Django stores times."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def is_past(field: str) -> Case:
    """Return whether the time in *field* has come, for a query; False where there is none."""
    return Case(
        When(**{f"{field}__lte": Now()}, then=Value(value=True)),
        default=Value(value=False),
        output_field=BooleanField(),
    )


def seconds_since(moment: dt.datetime, using: str) -> float:
    """Return how long ago *moment* was, an aware one, by the clock of a database."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {CLOCKS[connection.vendor][0]}", [])
        (now,) = cursor.fetchone()
    if isinstance(now, str):  # SQLite has no type for it.
        now = dt.datetime.fromisoformat(now)
    if now.tzinfo is None:
        now = now.replace(tzinfo=dt.UTC)  # As CLOCKS have it, whatever the site has set.
    return float((now - moment).total_seconds())
