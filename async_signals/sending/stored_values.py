"""What a row gives back for a value that was saved, as far as its field can tell."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import DateTimeField, DecimalField, FileField, JSONField
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Field

__all__ = ["as_stored"]


def as_stored(field: Field[Any, Any], value: Any, using: str | None) -> Any:
    """Return *value* as a row would give it back: "3" that was assigned to a number is 3."""
    while field.remote_field:  # A foreign key has the value of what it refers to.
        field = field.target_field  # type: ignore[attr-defined]
    try:
        value = _plain(field, field.to_python(value))
        if isinstance(field, FileField) and value is None:
            return field.get_prep_value("")  # No file has an empty name, also where NULL may be.
        if isinstance(field, DecimalField):
            return _rounded(field, value, using)
        if isinstance(field, DateTimeField):
            return _aware(value, using)
        if type(field) is JSONField:  # A site's own may give back what is no JSON.
            return json.loads(json.dumps(value, cls=field.encoder), cls=field.decoder)
    except (ArithmeticError, TypeError, ValueError, ValidationError):
        pass  # It has been saved, so its field takes it as it is.
    return value


#: What rows have, and how a value of a type that extends it, a choice or a safe string, becomes
#: one. Moments are dates to Python, so they come first. Each is handed its own type, because
#: libraries that stop the clock put others in the place of those in ``datetime``.
_PLAIN: dict[type, Callable[[Any, Any], Any]] = {
    str: lambda value, kind: kind.__str__(value),
    bytes: lambda value, kind: kind(memoryview(value)),
    bytearray: lambda value, kind: bytes(value),
    dt.datetime: lambda value, kind: kind.combine(
        kind.date(value),
        kind.timetz(value),  # Past methods of its own.
    ),
    dt.date: lambda value, kind: kind(value.year, value.month, value.day),
    dt.time: lambda value, kind: kind(
        *(value.hour, value.minute, value.second, value.microsecond, value.tzinfo), fold=value.fold
    ),
    dt.timedelta: lambda value, kind: kind(value.days, value.seconds, value.microseconds),
    uuid.UUID: lambda value, kind: kind(int=value.int),
}
_ROWS = frozenset({type(None), bool, int, float, *_PLAIN} - {bytearray})
_MOMENTS = frozenset({dt.datetime})


def _plain(field: Field[Any, Any], value: Any) -> Any:
    """Return *value* without what its type adds to one that rows have, and that no row keeps."""
    kind = type(value)
    if kind in _ROWS or hasattr(field, "from_db_value"):  # This makes values of its own of them.
        return value
    for plain, make in _PLAIN.items():
        if issubclass(kind, plain):
            return make(value, plain)
    return value


def _rounded(field: DecimalField[Any, Any], value: Any, using: str | None) -> Any:
    """Return a number with the places of its column: servers round up, Django reads SQLite's."""
    if type(value) is not decimal.Decimal or not value.is_finite() or field.decimal_places is None:
        return value
    is_sqlite = using is not None and connections[using].vendor == "sqlite"
    how = decimal.ROUND_HALF_EVEN if is_sqlite else decimal.ROUND_HALF_UP
    return value.quantize(decimal.Decimal(1).scaleb(-field.decimal_places), how, field.context)


def _aware(value: Any, using: str | None) -> Any:
    """Return a moment in the zone of its database; Django takes one without for one of its own."""
    if not settings.USE_TZ or type(value) not in _MOMENTS or using is None:
        return value
    if timezone.is_naive(value):
        value = timezone.make_aware(value, timezone.get_default_timezone())
    return value.astimezone(connections[using].timezone)
