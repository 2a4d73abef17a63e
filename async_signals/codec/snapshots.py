"""
The fields of a model instance, as they were at send.

A value of a type that the codec does not know goes through its field's own
``value_to_string()`` and ``to_python()``, as in Django's fixtures, where nothing is lost by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models.expressions import DatabaseDefault
from django.db.models.fields.files import FieldFile

from ..exceptions import DecodeError
from .files import name_of
from .table import Unsendable, decode_value

if TYPE_CHECKING:
    from django.db.models import Field, Model

    from .table import Encoder

#: Left to the field: its text, or its default in the database.
_AS_TEXT, _AS_DEFAULT = "text", "default"


def take(instance: Model, encoder: Encoder) -> list[Any]:
    """Return whether *instance* is new, and its loaded fields by their attributes' names."""
    held = instance.__dict__
    values = {}
    for field in instance._meta.concrete_fields:
        name = field.attname
        # Deferred fields are those that the instance does not have: reading one would query.
        if name in held:
            try:
                values[name] = _encode_field(field, held[name], instance, encoder)
            except Unsendable as exc:
                exc.path.append(f".{name}")
                raise
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


def _encode_field(field: Field[Any, Any], value: Any, instance: Model, encoder: Encoder) -> Any:
    if isinstance(value, FieldFile):
        value = name_of(value)
    depth = encoder.depth
    try:
        return encoder.encode(value)
    except Unsendable:
        encoder.depth = depth
        if isinstance(value, DatabaseDefault):
            return {"$": "field", "v": [_AS_DEFAULT, None]}
        if hasattr(value, "resolve_expression"):
            raise Unsendable(
                value,
                "expected a value, not an expression that only the database can compute",
                "Call instance.refresh_from_db() first, or choose instance='reference'.",
            ) from None
        text = _text_of(field, value, instance)
        if text is None:
            raise
        return {"$": "field", "v": [_AS_TEXT, text]}


def _text_of(field: Field[Any, Any], value: Any, instance: Model) -> str | None:
    """Return the field's own text for *value*; None: it does not lead back to the value."""
    try:
        text = field.value_to_string(instance)
        back = field.to_python(text)
        faithful = type(text) is str and type(back) is type(value) and back == value
    except Exception:  # noqa: BLE001  (the field's code may raise anything: then it cannot)
        return None
    return text if faithful else None


def _decode_field(field: Field[Any, Any], data: Any) -> Any:
    if type(data) is not dict or data.get("$") != "field":
        return decode_value(data)
    how, text = data["v"]
    if how == _AS_TEXT and type(text) is str:
        return field.to_python(text)
    if how == _AS_DEFAULT and field.has_db_default():
        return field.get_default()  # What Django gives a new instance: a DatabaseDefault.
    raise LookupError(how)
