"""What a save has changed: pairs of values, each of a field that may be asked how to write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .fields import encode_value
from .table import Unsendable, add_type

if TYPE_CHECKING:
    from django.db.models import Field

    from .table import Encoder


class Changes(dict[str, tuple[Any, Any]]):
    """Old and new value by field's attribute; arrives as a plain dict."""

    __slots__ = ("fields",)

    def __init__(self, pairs: dict[str, tuple[Any, Any]], fields: list[Field[Any, Any]]) -> None:
        super().__init__(pairs)
        self.fields = {field.attname: field for field in fields}


def _encode_changes(changes: Changes, encoder: Encoder) -> Any:
    encoded = {}
    for name, pair in changes.items():
        field = changes.fields[name]
        values = []
        for index, value in enumerate(pair):
            try:
                values.append(encode_value(field, value, encoder))
            except Unsendable as exc:
                exc.path += [f"[{index}]", f"[{name!r}]"]
                raise
        encoded[name] = {"$": "tuple", "v": values}
    return encoded


add_type(Changes, _encode_changes)
