"""The deliveries that one has to do with: itself, what led to it, and what repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections
from django.db.models.expressions import RawSQL

from ..conf import get_settings
from ..models import Delivery, Event

if TYPE_CHECKING:
    import uuid

__all__ = ["REPLAYS", "family_between", "highest"]

#: Replays that are looked at: the newest.
REPLAYS = 50

#: A table of its own at the end: for ``IN (... UNION ...)`` MariaDB looks at every delivery.
_FAMILY = """
WITH RECURSIVE meant(id, event_id) AS (
    SELECT id, event_id FROM {delivery} WHERE id >= %s AND id <= %s ORDER BY id LIMIT %s
), causes(id, cause, step) AS (
    SELECT meant.id, event.cause, 0 FROM meant JOIN {event} event ON event.id = meant.event_id
    UNION ALL
    SELECT above.id, event.cause, causes.step + 1
    FROM causes
    JOIN {delivery} above ON above.id = causes.cause
    JOIN {event} event ON event.id = above.event_id
    WHERE causes.step < %s
), replays(id) AS (
    SELECT again.id FROM meant JOIN {delivery} again ON again.replay_of_id = meant.id
    ORDER BY again.id DESC LIMIT %s
), family(id) AS (
    SELECT id FROM causes UNION SELECT id FROM replays
)
SELECT id FROM family
"""


def highest() -> int:
    """Return how many causes above each other are looked at: as many as there can be, and more."""
    return 2 * get_settings().max_recursion


def family_between(first: uuid.UUID, last: uuid.UUID, *, most: int, using: str) -> RawSQL:
    """
    Return the ids of deliveries and of all that they have to do with, for ``pk__in=``.

    Args:
        first: Of the ids that are meant.
        last: As *first*; the same where one is meant.
        most: Look at no more of those between them.
        using: Alias of their database.
    """
    sql = _FAMILY.format(delivery=Delivery._meta.db_table, event=Event._meta.db_table)
    keys = [Delivery._meta.pk.get_db_prep_value(key, connections[using]) for key in (first, last)]
    return RawSQL(sql, (*keys, most, highest(), REPLAYS))  # noqa: S611  (no text of anybody in it)
