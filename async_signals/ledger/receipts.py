"""
The two statements that a robust delivery costs which succeeds at once: claim, and receipt.

Written by hand, because they are on the path of every delivery: one round trip each, no
transaction around it, no signals of ``save()``, and the number of rows says who was first. On
PostgreSQL they do not wait for the disk. Should its server crash within the half second after,
such a claim is made again by whoever comes first, and a delivery whose receipt is lost runs once
more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

from ..conf import get_settings
from ..models import Claim
from .clock import CLOCKS
from .standing_connection import execute, is_transaction_of_its_own

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["insert_claim", "write_receipt"]

_TABLE = Claim._meta.db_table
_COLUMNS = "id, receiver, done, expires_at, started_at, worker, process, envelope"

#: Ends the statement's own transaction without waiting for the disk.
_QUICKLY = "WITH quickly AS MATERIALIZED (SELECT SET_CONFIG('synchronous_commit', 'off', true)) "


def insert_claim(
    id: str,  # noqa: A002
    *,
    receiver: str,
    worker: str,
    process: str,
    envelope: str,
    using: str,
) -> bool:
    """Claim a delivery for as long as a lease; False: it was claimed before."""
    connection = connections[using]
    vendor, lease = connection.vendor, get_settings().lease
    now, later = CLOCKS[vendor]
    key = "%s::uuid" if vendor == "postgresql" else "%s"
    values = f"{key}, %s, FALSE, {later}, {now}, %s, %s, %s"
    if _may_be_quick(connection, using):
        sql = f"{_QUICKLY}INSERT INTO {_TABLE} ({_COLUMNS}) SELECT {values} FROM quickly "
    else:
        ignore = "IGNORE " if vendor == "mysql" else ""
        sql = f"INSERT {ignore}INTO {_TABLE} ({_COLUMNS}) VALUES ({values}) "
    if vendor != "mysql":
        sql += "ON CONFLICT (id) DO NOTHING"
    parameters = (_key(id, connection), receiver, lease, worker[:255], process, envelope)
    return execute(sql, parameters, using) == 1


def write_receipt(id: str, *, receiver: str, using: str) -> bool:  # noqa: A002
    """Turn a claim into a receipt; False: it is one, and somebody else has decided."""
    connection = connections[using]
    vendor, keep = connection.vendor, get_settings().keep_succeeded
    now, later = CLOCKS[vendor]
    key = _key(id, connection)
    if vendor == "postgresql":  # Whose crash may have lost the claim.
        values = f"%s::uuid, %s, TRUE, {later}, {now}, '', '', ''"
        quick = _may_be_quick(connection, using)
        source = f"SELECT {values} FROM quickly" if quick else f"VALUES ({values})"
        sql = (
            f"{_QUICKLY if quick else ''}INSERT INTO {_TABLE} AS claim ({_COLUMNS}) {source} "
            "ON CONFLICT (id) DO UPDATE SET done = TRUE, envelope = '', "
            "expires_at = EXCLUDED.expires_at WHERE NOT claim.done"
        )
        parameters: tuple[Any, ...] = (key, receiver, keep)
    else:
        sql = (
            f"UPDATE {_TABLE} SET done = TRUE, envelope = '', expires_at = {later} "
            "WHERE id = %s AND NOT done"
        )
        parameters = (keep, key)
    return execute(sql, parameters, using) == 1


def _may_be_quick(connection: BaseDatabaseWrapper, using: str) -> bool:
    """Whether the statement is a transaction of its own, on a database that has a choice."""
    return connection.vendor == "postgresql" and is_transaction_of_its_own(using)


def _key(id: str, connection: BaseDatabaseWrapper) -> Any:  # noqa: A002
    field = Claim._meta.pk
    return field.get_db_prep_value(field.to_python(id), connection)
