"""The ledger's tables: nothing else reads or writes them but what stands on this package."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, router

from ..models import Delivery, Operation

if TYPE_CHECKING:
    from django.db.models import QuerySet

__all__ = ["alias", "aliases", "begin_writing", "elsewhere", "has_tables", "locked", "silent"]

#: Seconds before a database that had no tables is asked again, and one that could not be asked;
#: the latter doubles, up to the longest.
LOOK_AGAIN, LONGEST_LOOK = 60.0, 3600.0

#: When to ask each database for its tables, by ``time.monotonic()``; None: it has them.
_next_look: dict[str, float | None] = {}
#: Seconds that each database which could not be asked was left alone, the last time.
_left_alone: dict[str, float] = {}


def alias() -> str:
    """Return the alias of the database that has the ledger, as the site's routers say."""
    return router.db_for_write(Delivery)


def aliases() -> list[str]:
    """
    Return all databases that may hold deliveries: that of ``alias()``, then the others.

    Durable deliveries stand where their senders write: on each database on which the site's
    routers allow the tables, and which has them. What Django's tests call a mirror is a replica.
    """
    return [alias(), *(each for each in elsewhere() if has_tables(each))]


def elsewhere() -> list[str]:
    """Return the databases beside ``alias()`` that may have the tables; none of them is asked."""
    first = alias()
    return [each for each in connections if each != first and _may_have_tables(each)]


def _may_have_tables(using: str) -> bool:
    is_replica = connections[using].settings_dict["TEST"].get("MIRROR")
    return not is_replica and bool(router.allow_migrate_model(using, Delivery))


def silent() -> list[str]:
    """Return the databases that could not be asked for deliveries when ``aliases()`` last did."""
    return [each for each in connections if each in _left_alone]


def has_tables(using: str) -> bool:
    """Whether a database has the tables; it is asked once a minute at most, until it has them."""
    connection = connections[using]
    if hasattr(connection.cursor, "wrapped"):  # By Django, in a test that may not touch it.
        return False
    due = _next_look.get(using, 0.0)
    if due is None:
        return True
    if time.monotonic() < due:
        return False
    try:
        has_tables = Delivery._meta.db_table in connection.introspection.table_names()
    except (Error, ImproperlyConfigured):
        connection.close()
        has_tables = False
        wait = _left_alone[using] = min(LONGEST_LOOK, _left_alone.get(using, LOOK_AGAIN / 2) * 2)
    else:
        _left_alone.pop(using, None)
        wait = LOOK_AGAIN
    _next_look[using] = None if has_tables else time.monotonic() + wait
    return has_tables


def begin_writing(using: str) -> None:
    """
    Where rows cannot be locked, take the only lock there is: that of SQLite, by a write.

    It waits for its turn. A transaction that reads first and writes then is refused at once where
    another one has written in between.
    """
    if not connections[using].features.has_select_for_update:
        Operation._base_manager.using(using).filter(by="").update(by="")


def locked(rows: QuerySet[Any], using: str) -> QuerySet[Any]:
    """Lock *rows*, leaving out what another process has locked where the database can."""
    features = connections[using].features
    if not features.has_select_for_update:
        return rows  # SQLite: one writer at a time, and a stale read cannot be written upon.
    return rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
