"""
The fields of a model instance, as they were at send.

A value of a type that the codec does not know travels as the text that its field makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import JSONField, Value
from django.db.models.expressions import DatabaseDefault
from django.db.models.fields.files import FieldFile

from ..exceptions import DecodeError
from .fields import read, text_of
from .files import name_of
from .table import Unsendable, decode_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Field, Model

    from .table import Encoder

#: Left to the field: its text, its default in the database, or the null of JSON.
_AS_TEXT, _AS_DEFAULT, _AS_NULL = "text", "default", "null"

#: How the null of JSON, which is not that of SQL, is given to a JSONField.
_NULLS: dict[type, Callable[[], Any]] = {Value: lambda: Value(None, JSONField())}
if hasattr(models, "JSONNull"):  # From Django 6.1 on.
    _NULLS[models.JSONNull] = models.JSONNull


def take(instance: Model, encoder: Encoder) -> list[Any]:
    """Return whether *instance* is new, and its loaded fields by their attributes' names."""
    held = instance.__dict__
    values = {}
    for field in instance._meta.concrete_fields:
        name = field.attname
        # Deferred fields are those that the instance does not have: reading one would query.
        if name in held:
            try:
                values[name] = _encode_field(field, held[name], encoder)
            except Unsendable as exc:
                exc.path.append(f".{name}")
                raise
    encoder.expect(len(values))
    return [instance._state.adding, values]


def rebuild(model: type[Model], alias: str | None, snapshot: Any) -> Model:
    """
    Return the instance whose fields ``take()`` has put into *snapshot*.

    Raises:
        DecodeError: It has fields that the model in this process does not have.
    """
    adding, values = snapshot
    fields = [field for field in model._meta.concrete_fields if field.attname in values]
    names = [field.attname for field in fields]
    if len(names) != len(values):
        raise DecodeError(
            f"cannot rebuild {model._meta.label}: expected fields that it has, got: also "
            f"{', '.join(sorted(values.keys() - {*names}))}. Run sender and worker in one release "
            "until the messages of the other are consumed."
        )
    instance = model.from_db(
        alias, names, [_decode_field(field, values[field.attname]) for field in fields]
    )
    instance._state.adding = adding
    return instance


def _encode_field(field: Field[Any, Any], value: Any, encoder: Encoder) -> Any:
    if isinstance(value, FieldFile):
        value = name_of(value)
    held = encoder.held
    try:
        return encoder.encode(value)
    except Unsendable:
        if isinstance(value, DatabaseDefault):
            return {"$": "field", "v": [_AS_DEFAULT, None]}
        if type(value) in _NULLS and value.value is None and isinstance(field, JSONField):
            return {"$": "field", "v": [_AS_NULL, type(value).__name__]}
        if hasattr(value, "resolve_expression"):
            raise Unsendable(
                value,
                "expected a value, not an expression that only the database can compute",
                "Call instance.refresh_from_db() first, or choose instance='reference'.",
            ) from None
        text = text_of(field, value)
        if text is None:
            raise
        encoder.held = held  # The text travels, not what the value holds.
        return {"$": "field", "v": [_AS_TEXT, encoder.encode(text)]}


def _decode_field(field: Field[Any, Any], data: Any) -> Any:
    if type(data) is not dict or data.get("$") != "field":
        return decode_value(data)
    how, text = data["v"]
    if how == _AS_TEXT:
        return read(field, text)
    if how == _AS_DEFAULT and field.has_db_default():
        # Not get_default(), which is Python's where the field has one, too.
        expression = field._db_default_expression  # type: ignore[attr-defined]  # Django's own.
        return DatabaseDefault(expression, output_field=field)
    if how == _AS_NULL and isinstance(field, JSONField):
        return {kind.__name__: make for kind, make in _NULLS.items()}[text]()
    raise LookupError(how)
