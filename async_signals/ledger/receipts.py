"""
The two statements that a robust delivery costs which succeeds at once: claim, and receipt.

Written by hand, because they are on the path of every delivery: one round trip each, no
transaction around it, no signals of ``save()``, and the number of rows says who was first. On
PostgreSQL they do not wait for the disk. Should its server crash within the half second after,
such a claim is made again by whoever comes first, and a delivery whose receipt is lost runs once
more.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from django.db import connections

from ..conf import get_settings
from ..models import Claim
from .clock import CLOCKS
from .standing_connection import execute

if TYPE_CHECKING:
    import uuid

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["insert_claim", "write_receipt"]

_TABLE = Claim._meta.db_table
_COLUMNS = "id, receiver, done, expires_at, started_at, worker, process, envelope"
#: By vendor: the place of an id among the values.
_PLACE = {"postgresql": "%s::uuid", "mysql": "%s", "sqlite": "%s"}

#: By what a statement writes in ``done``: the same, and that its transaction, which is its own,
#: does not wait for the disk. PostgreSQL works out a row's values before it writes it.
_QUICKLY = {
    "FALSE": "SET_CONFIG('synchronous_commit', 'off', true) <> 'off'",
    "TRUE": "SET_CONFIG('synchronous_commit', 'off', true) = 'off'",
}


def insert_claim(
    id: str,  # noqa: A002
    *,
    receiver: str,
    worker: str,
    process: str,
    envelope: str,
    connection: BaseDatabaseWrapper,
) -> bool:
    """Claim a delivery for as long as a lease; False: it was claimed before."""
    vendor, lease = connection.vendor, get_settings().lease
    now, later = CLOCKS[vendor]
    values = f"{_PLACE[vendor]}, %s, {_done('FALSE', connection)}, {later}, {now}, %s, %s, %s"
    ignore = "IGNORE " if vendor == "mysql" else ""
    sql = f"INSERT {ignore}INTO {_TABLE} ({_COLUMNS}) VALUES ({values})"
    if vendor != "mysql":
        sql += " ON CONFLICT (id) DO NOTHING"
    parameters = (_key(id, connection), receiver, lease, worker[:255], process, envelope)
    return execute(sql, parameters, connection) == 1


def write_receipt(id: str, *, receiver: str, using: str) -> bool:  # noqa: A002
    """Turn a claim into a receipt; False: it is one, and somebody else has decided."""
    connection = connections[using]
    vendor, keep = connection.vendor, get_settings().keep_succeeded
    now, later = CLOCKS[vendor]
    key = _key(id, connection)
    if vendor == "postgresql":  # Whose crash may have lost the claim.
        done = _done("TRUE", connection)
        sql = (
            f"INSERT INTO {_TABLE} AS claim ({_COLUMNS}) "
            f"VALUES ({_PLACE[vendor]}, %s, {done}, {later}, {now}, '', '', '') "
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
    return execute(sql, parameters, connection) == 1


def _done(value: str, connection: BaseDatabaseWrapper) -> str:
    is_quick = connection.vendor == "postgresql" and not connection.in_atomic_block
    return _QUICKLY[value] if is_quick else value


def _key(id: str, connection: BaseDatabaseWrapper) -> Any:  # noqa: A002
    return Claim._meta.pk.get_db_prep_value(_parsed(id), connection)


@functools.lru_cache(maxsize=16)  # A receipt follows on its claim.
def _parsed(id: str) -> uuid.UUID:  # noqa: A002
    return cast("uuid.UUID", Claim._meta.pk.to_python(id))
