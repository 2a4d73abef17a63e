"""
QuerySets: the rows that they held, as primary keys, in their order.

Of all that is encoded only a queryset that was not evaluated yet reads the database. What is
more than rows of the model, ``values()`` or annotations, is refused: keys would lose it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.db.models import Model, QuerySet

from .keys import REFUSED, column_values, decode_key, encode_key, is_of_the_key
from .models import is_rehearsal, label_of, model_at, rows_of, stand_in
from .table import Unsendable, add_family, add_tag

if TYPE_CHECKING:
    from .table import Encoder

CURE = (
    "Send what it gives, list(queryset.values(...)), or leave it out with exclude=[{argument!r}]."
)


#: Columns of keys that one query asks for: SQLite takes 999, Oracle 1000.
_VALUES_A_QUERY = 900


def _encode_queryset(queryset: QuerySet[Any], encoder: Encoder) -> Any:
    model = queryset.model
    data = [label_of(model), queryset.db]  # type: ignore[arg-type]  # A class is hashable.
    if encoder.gone:
        # The origin of a deletion: its rows are gone, and listing them would cost a query for
        # each instance deleted.
        return {"$": "queryset", "v": [*data, []]}
    _check_rows(queryset)
    manager = [] if type(queryset) is QuerySet else [_manager_of(queryset)]
    pks = [pk for pk in _primary_keys(queryset) if pk is not None]
    encoder.expect(len(pks))
    keys = [encode_key(model, pk, encoder) for pk in pks]
    return {"$": "queryset", "v": [*data, keys, *manager]}


def _check_rows(queryset: QuerySet[Any]) -> None:
    """Raise Unsendable where *queryset* is more than rows of its model."""
    query = queryset.query
    for is_more, what in (
        (queryset._fields is not None, "values() or values_list()"),  # type: ignore[attr-defined]
        (query.combinator, "union(), intersection() or difference()"),
        (query.annotation_select or query.extra_select, "annotate() or extra()"),
    ):
        if is_more:
            raise Unsendable(queryset, f"expected rows of a model, not those of {what}", CURE)


def _manager_of(queryset: QuerySet[Any]) -> str:
    """Return the name of the model's manager whose querysets are of the class of *queryset*."""
    for name in queryset.model._meta.managers_map:
        if _class_of(queryset.model, name) is type(queryset):  # type: ignore[arg-type]
            return str(name)
    raise Unsendable(
        queryset, "expected a QuerySet, or the class of one of its model's managers", CURE
    )


@functools.cache
def _class_of(model: type[Model], manager: str) -> type[QuerySet[Any]]:
    """Return the class of the querysets of *manager*; raises LookupError."""
    return type(model._meta.managers_map[manager].get_queryset())


def _primary_keys(queryset: QuerySet[Any]) -> list[Any]:
    rows = queryset._result_cache
    if rows is not None and all(isinstance(row, Model) for row in rows):
        return [row.pk for row in rows]
    return list(queryset.values_list("pk", flat=True))


def _decode_queryset(data: Any) -> QuerySet[Any]:
    label, alias, keys, *manager = data
    model = model_at(label)
    rows = rows_of(model, alias)
    pks = [decode_key(model, key) for key in keys]
    arrived = rows.filter(pk__in=pks) if pks else rows.none()
    if manager:
        arrived = _class_of(model, manager[0])(model=model, query=arrived.query, using=alias)
    arrived._result_cache = _held(rows, pks) if pks else []
    return arrived


def _held(rows: QuerySet[Any], pks: list[Any]) -> list[Any]:
    """Return those of *rows* that exist, in the order of *pks*, and as often."""
    if is_rehearsal.get():
        return [stand_in(rows.model, rows.db, pk) for pk in pks]
    columns = functools.partial(column_values, rows.model)
    size = _VALUES_A_QUERY // len(rows.model._meta.pk_fields)
    try:
        found = {
            columns(row.pk): row
            for start in range(0, len(pks), size)
            for row in rows.filter(pk__in=pks[start : start + size])
        }
    except REFUSED as exc:
        if is_of_the_key(exc):  # A key that the column cannot have: a fault of the message.
            raise ValueError(rows.model._meta.label) from None
        raise
    return [found[key] for key in map(columns, pks) if key in found]


add_family(lambda kind: issubclass(kind, QuerySet), _encode_queryset)
add_tag("queryset", _decode_queryset)
