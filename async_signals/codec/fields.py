"""
Values of fields, also of a type that nothing but the field knows.

Such a value goes through its field's own ``value_to_string()`` and ``to_python()``, as in
Django's fixtures, where nothing is lost by it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db.models import JSONField

from ..exceptions import DecodeError
from .models import label_of, model_at
from .table import AWAY, MALFORMED, Unsendable, add_tag, decode_value

if TYPE_CHECKING:
    from django.db.models import Field

    from .table import Encoder


def encode_value(field: Field[Any, Any], value: Any, encoder: Encoder) -> Any:
    """Return *value* as JSON, where need be with the name of *field*; raises Unsendable."""
    held = encoder.held
    try:
        return encoder.encode(value)
    except Unsendable:
        text = text_of(field, value)
        if text is None:
            raise
        encoder.held = held  # The text travels, not what the value holds.
        where = [label_of(field.model), field.attname]
        return {"$": "by_field", "v": [*where, encoder.encode(text)]}


def text_of(field: Field[Any, Any], value: Any) -> str | None:
    """Return the field's own text for *value*; None: it does not lead back to the value."""
    try:
        text = _written(field, value)
        back = field.to_python(text)
        faithful = type(text) is str and _is_same(back, value)
    except Exception:  # noqa: BLE001  (the field's code may raise anything: then it cannot)
        return None
    return text if faithful else None


def _is_same(left: Any, right: Any) -> bool:
    """Whether two values are equal and of one type, as is all that containers hold."""
    kind = type(left)
    if kind is not type(right) or not bool(left == right):
        return False
    if kind in (list, tuple):
        return all(map(_is_same, left, right))
    if kind in (set, frozenset):
        return {(type(item), item) for item in left} == {(type(item), item) for item in right}
    if kind is dict:
        keys = {(type(key), key) for key in left} == {(type(key), key) for key in right}
        return keys and all(_is_same(left[key], right[key]) for key in left)
    return True


def read(field: Field[Any, Any], text: Any) -> Any:
    """
    Return the value of *field* whose text is *text*.

    Raises:
        DecodeError: The field's code raises what is no word about a text.
    """
    text = decode_value(text)
    if type(text) is not str:
        raise TypeError
    try:
        return field.to_python(text)
    except (*MALFORMED, *AWAY):
        raise
    except Exception as exc:
        raise DecodeError(
            f"cannot decode a value of {field}: expected to_python() to read what "
            f"value_to_string() has written, got: one that raises {type(exc).__name__}. Run sender "
            "and worker in one release until the messages of the other are consumed."
        ) from exc


def equal(field: Field[Any, Any], left: Any, right: Any) -> bool:
    """Whether two values of *field* are equal; where they cannot tell, whether its texts are."""
    try:
        return bool(left == right) and _is_same_json(field, left, right)
    except Exception:  # noqa: BLE001  (arrays compare item by item, and have no truth)
        try:
            return _written(field, left) == _written(field, right)
        except Exception:  # noqa: BLE001  (the field's code may raise anything)
            return False


def _is_same_json(field: Field[Any, Any], left: Any, right: Any) -> bool:
    """Whether equal values of *field* are one JSON, where that is what it stores: 1 is not true."""
    field = origin_of(field)
    if not isinstance(field, JSONField):
        return True
    try:
        return json_of(field, left) == json_of(field, right)
    except (TypeError, ValueError, RecursionError):  # A site's own gives back what is no JSON.
        return True


def json_of(field: JSONField, value: Any) -> str:
    """Return the JSON that *field* stores for *value*, whatever the order of its keys."""
    return json.dumps(value, cls=field.encoder, sort_keys=True)


def origin_of(field: Field[Any, Any]) -> Field[Any, Any]:
    """Return the field whose values *field* has: a foreign key has those of what it refers to."""
    while field.remote_field:
        field = field.target_field  # type: ignore[attr-defined]
    return field


def _written(field: Field[Any, Any], value: Any) -> str:
    field = origin_of(field)
    # An instance that has nothing but this value, made without a signal.
    carrier = object.__new__(field.model)
    carrier.__dict__[field.attname] = value
    return field.value_to_string(carrier)


def _decode_by_field(data: Any) -> Any:
    label, name, text = data
    for field in model_at(label)._meta.concrete_fields:
        if field.attname == name:
            return read(field, text)
    raise LookupError(name)


add_tag("by_field", _decode_by_field)
