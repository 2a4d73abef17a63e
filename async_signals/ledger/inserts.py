"""
Many rows in one statement, written by hand.

For what is on the path of a sender: no instance of a model for each row, which costs more than the
row. On PostgreSQL each column of many rows is one parameter.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from .clock import CLOCKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = ["insert", "most_rows"]

#: Rows of one statement: servers bound what they read at once.
MAX_ROWS = 1_000
#: Rows that have their values written out, at most, also where columns are faster for many.
FEW = 4


@functools.cache
def _literals(model: type[Model]) -> dict[str, str]:
    """Return the defaults of *model* as SQL: numbers, empty texts and NULL are all there are."""
    literals = {}
    for field in model._meta.concrete_fields:
        if field.has_default() or field.null or field.empty_strings_allowed:
            value = None if field.null else field.get_default()
            literals[str(field.column)] = "NULL" if value is None else repr(value)
    return literals


def insert(
    connection: BaseDatabaseWrapper,
    model: type[Model],
    columns: dict[str, str],
    rows: Sequence[tuple[Any, ...]],
    constants: dict[str, str] | None = None,
    *,
    ignore_known: bool = False,
) -> None:
    """
    Insert *rows* into the table of *model*.

    Args:
        connection: Of the database.
        model: Whose table it is.
        columns: Names and types; "seconds" stands for a time, so long from now.
        rows: The values of the columns.
        constants: What all rows have in others, as SQL; what is not named has its default.
        ignore_known: Leave out rows whose key is there.
    """
    _, later = CLOCKS[connection.vendor]
    constants = _literals(model) | (constants or {})
    others = {name: value for name, value in constants.items() if name not in columns}
    parameters: list[Any]
    if connection.vendor == "postgresql" and len(rows) > FEW:
        values = [
            later.replace("%s", name) if kind == "seconds" else name
            for name, kind in columns.items()
        ]
        arrays = ", ".join(
            "ARRAY(SELECT JSON_ARRAY_ELEMENTS_TEXT(%s::json))"
            f"::{'float8' if kind == 'seconds' else kind}[]"
            for kind in columns.values()
        )
        new = f"UNNEST({arrays}) AS new ({', '.join(columns)})"
        source = f"SELECT {', '.join([*values, *others.values()])} FROM {new}"
        # As JSON: what drivers write for an array of texts takes them longer than all the rest.
        parameters = [json.dumps(column, default=str) for column in zip(*rows, strict=True)]
    else:
        kinds = list(columns.values())
        places = [later if kind == "seconds" else "%s" for kind in kinds]
        row = f"({', '.join([*places, *others.values()])})"
        source = f"VALUES {', '.join([row] * len(rows))}"
        parameters = [
            _adapted(value, kind, connection)
            for row_of_values in rows
            for value, kind in zip(row_of_values, kinds, strict=True)
        ]
    ignore, on_conflict = "", ""
    if ignore_known:
        ignore = "IGNORE " if connection.vendor == "mysql" else ""
        on_conflict = "" if ignore else " ON CONFLICT (id) DO NOTHING"
    names = ", ".join(map(connection.ops.quote_name, [*columns, *others]))
    sql = f"INSERT {ignore}INTO {model._meta.db_table} ({names}) {source}{on_conflict}"
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _adapted(value: Any, kind: str, connection: BaseDatabaseWrapper) -> Any:
    """Return *value* as the driver takes it where there are no arrays."""
    if kind == "uuid" and value is not None:
        # Which some databases have a type for.
        return value if connection.features.has_native_uuid_field else value.replace("-", "")
    if kind == "timestamptz":
        return connection.ops.adapt_datetimefield_value(value)
    return value


def most_rows(connection: BaseDatabaseWrapper, columns: int) -> int:
    """Return how many rows of so many columns one statement takes."""
    if connection.vendor == "postgresql":
        return MAX_ROWS  # An array is one parameter.
    limit = connection.features.max_query_params
    return min(MAX_ROWS, limit // columns) if limit else MAX_ROWS
