"""The deliveries that a UUID may mean: its own, those of its event, those about its object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections
from django.db.models.expressions import RawSQL

from ..models import Delivery, Event

if TYPE_CHECKING:
    import uuid

__all__ = ["EVENTS", "meant_by"]

#: Events of an object that are looked at: the newest.
EVENTS = 1000

#: A union, since no database takes its indexes where "or" stands before a subquery; in a table of
#: its own, since MariaDB looks at every delivery for ``IN (... UNION ...)``.
_MEANT = """
SELECT id FROM (
    SELECT id FROM {delivery} WHERE id = %s
    UNION SELECT id FROM {delivery} WHERE event_id = %s
    UNION SELECT about.id FROM (
        SELECT id FROM {event} WHERE instance_pk = %s ORDER BY id DESC LIMIT %s
    ) newest JOIN {delivery} about ON about.event_id = newest.id
) meant
"""


def meant_by(key: uuid.UUID, text: str, *, using: str) -> RawSQL:
    """
    Return the ids of the deliveries that *key* may mean, for ``pk__in=``.

    Args:
        key: The id of a delivery, of an event, or the primary key of an object.
        text: The primary key as events have it.
        using: Alias of the ledger's database.
    """
    sql = _MEANT.format(delivery=Delivery._meta.db_table, event=Event._meta.db_table)
    own = Delivery._meta.pk.get_db_prep_value(key, connections[using])
    return RawSQL(sql, (own, own, text, EVENTS))  # noqa: S611  (no text of anybody in it)
