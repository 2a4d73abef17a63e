"""
Statements that PostgreSQL plans once for a connection, and that libpq itself executes.

Django's cursors and psycopg's loop cost more than the server needs for a small statement, and
the ledger's two are on the path of every robust delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

__all__ = ["PreparedStatements"]


class PreparedStatements:
    """
    Those of one connection of psycopg 3, which is in autocommit and nobody else's.

    While one is executed, Python handles no signal.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        from psycopg import errors, pq  # noqa: PLC0415  (a driver that a site may not have)

        self._errors, self._pq = errors, pq
        self._server = connection.pgconn
        self._names: dict[str, bytes] = {}

    def execute(self, sql: str, parameters: Sequence[object]) -> int:
        """
        Execute one statement, and return the number of rows that it has changed.

        Args:
            sql: With ``%s`` for each parameter, whose type the server can tell.
            parameters: Sent as their ``str()``.

        Raises:
            LookupError: The server does not know what it was told to prepare: something between it
                and us, such as PgBouncer, hands out one server for another.
            psycopg.Error: As psycopg's cursors.
        """
        name = self._names.get(sql) or self._prepare(sql)
        values = [str(value).encode() for value in parameters]
        result = self._server.exec_prepared(name, values)
        self._check(result)
        return result.command_tuples or 0

    def _prepare(self, sql: str) -> bytes:
        name = b"async_signals_%d" % len(self._names)
        parts = sql.split("%s")
        numbered = parts[0] + "".join(f"${n}{part}" for n, part in enumerate(parts[1:], 1))
        self._check(self._server.prepare(name, numbered.encode()))
        self._names[sql] = name
        return name

    def _check(self, result: Any) -> None:
        errors, pq = self._errors, self._pq
        if self._server.status != pq.ConnStatus.OK:  # No code tells that it is an operational one.
            raise errors.OperationalError(result.get_error_message())
        if result.status != pq.ExecStatus.COMMAND_OK:
            exc = errors.error_from_result(result)
            if isinstance(exc, (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)):
                raise LookupError(str(exc))
            raise exc
