"""A field whose values are of a type that only the field knows."""

from __future__ import annotations

from django.db import models


class Money:
    """Not a dataclass, so nothing but the field can tell how it becomes text."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.cents == self.cents

    __hash__ = None


class MoneyField(models.IntegerField):
    def from_db_value(self, value, expression, connection):
        return None if value is None else Money(value)

    def to_python(self, value):
        return value if value is None or isinstance(value, Money) else Money(int(value))

    def get_prep_value(self, value):
        return value.cents if isinstance(value, Money) else value

    def value_to_string(self, obj):
        return str(self.value_from_object(obj).cents)


class ForgetfulField(MoneyField):
    """Its text does not lead back to the value."""

    def value_to_string(self, obj):
        return "0"


class BareField(models.Field):
    """Prepares no value for its column."""

    def db_type(self, connection):
        return "text"
