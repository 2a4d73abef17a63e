"""
Primary keys, of one column or several: what finds a row again.

A key is handed to its field and to the database, and Django calls what it takes for an expression.
So nothing stands in a key but plain values and those of the field's own type.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import math
import pathlib
import types
import uuid
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import DataError, OperationalError, ProgrammingError
from django.db.models import JSONField
from django.utils.functional import Promise
from django.utils.safestring import SafeString

from .custom import is_registered
from .fields import encode_value, json_of, origin_of, read, text_of
from .lazies import kept
from .models import label_of
from .table import CALLED, Unsendable, decode_value

if TYPE_CHECKING:
    from django.db.models import Field, Model

    from .table import Encoder

#: Decimal digits beyond those of every database's numbers, and harmless as a Python int.
_MAX_DIGITS = 20_000

#: What no field and no database calls anything of.
_SCALARS = frozenset(
    {types.NoneType, bool, int, float, str, SafeString, bytes, decimal.Decimal, uuid.UUID}
    | {dt.datetime, dt.date, dt.time, dt.timedelta}
    | {pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath}
)

#: What PostgreSQL and MariaDB say of a table, a column or a right that they do not have.
_OF_THE_SCHEMA = frozenset({"42P01", "42703", "3F000", "42501", 1146})

#: What MariaDB and MySQL say of several values for one column.
_OF_THE_KEY = frozenset({1241, 4078})

#: What is raised for a key that its column cannot have, and for other reasons.
REFUSED = (DataError, ProgrammingError, OperationalError, EmptyResultSet)


def encode_key(model: type[Model], pk: Any, encoder: Encoder) -> Any:
    """Return the primary key *pk*, also one of several columns, as JSON; raises Unsendable."""
    fields = model._meta.pk_fields
    if len(fields) == 1:
        return _encode_part(fields[0], pk, encoder)
    parts = zip(fields, pk, strict=True)
    return {"$": "tuple", "v": [_encode_part(field, part, encoder) for field, part in parts]}


def decode_key(model: type[Model], data: Any) -> Any:
    """
    Return the primary key of *model* whose JSON is *data*.

    Raises:
        DecodeError: It is none, in one of its parts.
        ValueError: No row has it, and a field would unfold it without end.
        TypeError: Its field, or the database, might call something of it.
        LookupError: It is that of another field.
    """
    if type(data) is int:
        return data
    fields = model._meta.pk_fields
    if len(fields) == 1:
        return _decode_part(fields[0], data)
    if type(data) is not dict or data["$"] != "tuple":
        raise TypeError
    return tuple(_decode_part(*part) for part in zip(fields, data["v"], strict=True))


def column_values(model: type[Model], pk: Any) -> tuple[Any, ...]:
    """Return what the database has for *pk*, column by column: this has a hash, *pk* may not."""
    fields = model._meta.pk_fields
    parts = (pk,) if len(fields) == 1 else pk
    return tuple(_column_value(*each) for each in zip(fields, parts, strict=True))


def is_of_the_key(error: Exception) -> bool:
    """Whether *error*, one of REFUSED, is a fault of the key, not of the schema or the server."""
    cause = error.__cause__
    said = {getattr(cause, "sqlstate", None), *getattr(cause, "args", ())[:1]}
    if isinstance(error, OperationalError):
        return not said.isdisjoint(_OF_THE_KEY)
    return said.isdisjoint(_OF_THE_SCHEMA)


def _encode_part(field: Field[Any, Any], value: Any, encoder: Encoder) -> Any:
    if issubclass(type(value), Promise):  # A translated text, which was stored as what it says.
        value = kept(value)
    if type(value) in _SCALARS or _is_of_a_key(value):
        return encode_value(field, value, encoder)
    text = text_of(field, value)
    if text is None:
        raise Unsendable(
            value,
            "expected a primary key of plain values, or one whose field's value_to_string() and "
            "to_python() lead back to it",
        )
    return {"$": "by_field", "v": [label_of(field.model), field.attname, encoder.encode(text)]}


def _decode_part(field: Field[Any, Any], data: Any) -> Any:
    if type(data) is dict and data.get("$") == "by_field":
        label, name, text = data["v"]
        if [label, name] != [label_of(field.model), field.attname]:
            raise LookupError(name)
        value = read(field, text)
    else:
        value = decode_value(data)
        if not _is_of_a_key(value):
            raise TypeError
    # A text may be a number to the field, and some drivers write all of its digits.
    if _digits_of(field.get_prep_value(value)) > _MAX_DIGITS:
        raise ValueError
    return value


def _is_of_a_key(value: Any) -> bool:
    """
    Whether *value* may stand in a key.

    Raises:
        ValueError: It is a number that a field would unfold without end.
    """
    kind = type(value)
    if kind in (float, decimal.Decimal) and not math.isfinite(value):
        return False  # Drivers differ in what they make of it, and none finds a row by it.
    if kind in _SCALARS:
        if _digits_of(value) > _MAX_DIGITS:
            raise ValueError
        return True
    if kind in (list, tuple):
        return all(map(_is_of_a_key, value))
    if kind is dict:
        return all(_is_of_a_key(part) for pair in value.items() for part in pair)
    known = issubclass(kind, enum.Enum) or is_registered(kind)
    return known and inspect.getattr_static(value, CALLED, None) is None


def _digits_of(value: Any) -> float:
    """Return how many decimal digits *value*, where it is a number, has at least."""
    if type(value) is int:
        return value.bit_length() / 4
    if type(value) is decimal.Decimal:
        return abs(value.adjusted())
    return 0


def _column_value(field: Field[Any, Any], part: Any) -> Any:
    field = origin_of(field)
    value = field.get_prep_value(part)
    if isinstance(field, JSONField):
        try:
            return json_of(field, value)  # There true is not 1, as it is in Python.
        except (TypeError, ValueError):  # A site's own may prepare what is no JSON.
            pass
    return _frozen(value)


def _frozen(value: Any) -> Any:
    """Return what has a hash in the place of a list or a dict."""
    if type(value) in (list, tuple):
        return tuple(map(_frozen, value))
    if type(value) is dict:
        return frozenset((key, _frozen(item)) for key, item in value.items())
    return value
