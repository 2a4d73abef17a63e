"""
What a save has changed, for receivers with ``track_changes``: no query, no work for other models.

An instance of a tracked model remembers, in its ``_state``, the values that it was loaded
with, and for each receiver those that the receiver was last told of. So a receiver hears of
each change once, also where receivers of the same signal save the instance again.
"""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import functools
import threading
import uuid
from typing import TYPE_CHECKING, Any

from django.apps import apps as installed
from django.db.models import Field, Model
from django.db.models.fields.files import FieldFile
from django.db.models.signals import post_init, post_save, pre_init, pre_save
from django.db.models.utils import make_model_tuple

from ..codec.changes import Changes
from ..codec.fields import equal
from ..exceptions import RegistrationError
from .stored_values import as_stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from django.apps.registry import Apps
    from django.dispatch import Signal

__all__ = ["Save", "track"]

#: Name in ``instance._state``: the values by receiver, under None those that were loaded. Never
#: changed in place: a copy of the instance has the same dict.
_VALUES = "async_signals_values"

#: What cannot change without being another object, and needs no copy.
_IMMUTABLE = frozenset(
    {bool, int, float, str, bytes, type(None), decimal.Decimal, uuid.UUID}
    | {dt.datetime, dt.date, dt.time, dt.timedelta}
)


def track(
    signal: Signal,
    sender: object,
    *,
    receiver: str,
    fields: bool | Collection[str],
    apps: Apps | None = None,
) -> None:
    """
    Let instances of *sender* remember their values from now on.

    Raises:
        RegistrationError: Not ``post_save``, no sender, or a field that the sender has not; for
            a lazy sender raised when its model is loaded.
    """
    if signal is not post_save:
        raise RegistrationError(
            f"cannot track changes for {receiver}: expected post_save, which says what was saved, "
            "got: another signal. Connect a receiver of its own to the others."
        )
    if sender is None:
        raise RegistrationError(
            f"cannot track changes for {receiver}: expected one or more models as sender, got: "
            "None, which means all. Name them, sender=[Article, 'shop.Order']."
        )
    if not isinstance(fields, bool):
        check = functools.partial(_check_fields, receiver, fields)
        if isinstance(sender, str):  # Checked as soon as there is such a model.
            (apps or installed).lazy_model_operation(check, make_model_tuple(sender))
        elif isinstance(sender, type) and issubclass(sender, Model):
            check(sender)
    where: dict[str, Any] = {} if apps is None else {"apps": apps}
    pre_init.connect(_look_at_arguments, sender, dispatch_uid=_VALUES, **where)  # type: ignore[arg-type]
    post_init.connect(_remember, sender, dispatch_uid=_VALUES, **where)  # type: ignore[arg-type]
    pre_save.connect(_forget_foreign, sender, dispatch_uid=_VALUES, **where)  # type: ignore[arg-type]


def _check_fields(receiver: str, names: Collection[str], model: type[Model]) -> None:
    """Raise RegistrationError where one of *names* is none of a column of *model*."""
    columns = {
        name for field in model._meta.concrete_fields for name in (field.name, field.attname)
    }
    for name in names:
        if name not in columns:
            raise RegistrationError(
                f"cannot track changes for {receiver}: expected fields of {model._meta.label} that "
                f"are columns, got: {name!r}. Name fields as the model does; m2m_changed tells of "
                "many-to-many ones."
            )


class Save:
    """
    One save, as one receiver is to be told of it.

    The receiver has been told once ``told()`` is called: what was muted, held back by
    ``when=`` or refused at send counts as changed until then.
    """

    __slots__ = ("_instance", "_receiver", "_values", "changes")

    def __init__(
        self,
        instance: Model,
        *,
        receiver: str,
        fields: bool | Collection[str],
        created: bool,
        update_fields: Collection[str] | None,
    ) -> None:
        self._instance = instance
        self._receiver = receiver
        known = instance._state.__dict__.get(_VALUES, {})
        before = known.get(receiver, known.get(None))
        saved = [field for field in instance._meta.concrete_fields if _is_in(update_fields, field)]
        now = _rows_values_of(instance, saved)
        keys = _keys_of(type(instance))
        key = _rows_values_of(instance, keys)
        if before is not None and any(_differs(field, before, key) for field in keys):
            before = None  # What was loaded is another row.
        names = {field.attname for field in saved}
        kept = {name: value for name, value in (before or {}).items() if name not in names}
        self._values = kept | key | now
        #: Attributes' names (``author_id``) with pairs of values; nothing for a new row; None
        #: where it is not known what was there before.
        self.changes: Changes | None = None
        if created:
            self.changes = Changes({}, [])
            self.told()  # There is nothing to tell of a new row: what follows is a change of it.
        elif before is not None:
            asked = [field for field in saved if fields is True or _is_in(fields, field)]
            changed = [field for field in asked if _differs(field, before, now)]
            pairs = {each.attname: (before[each.attname], now[each.attname]) for each in changed}
            self.changes = Changes(pairs, changed)

    def told(self) -> None:
        """Remember that the receiver has been told of the values that were saved."""
        state = self._instance._state.__dict__
        state[_VALUES] = {**state.get(_VALUES, {}), self._receiver: self._values}


def _differs(field: Field[Any, Any], before: dict[str, Any], now: dict[str, Any]) -> bool:
    name = field.attname
    return name in before and name in now and not equal(field, before[name], now[name])


def _is_in(names: Any, field: Field[Any, Any]) -> bool:
    return names is None or field.name in names or field.attname in names


def _values_of(instance: Model, fields: Any) -> Iterator[tuple[Field[Any, Any], Any]]:
    """Yield field and value of each of *fields* that is loaded and has a value that is known."""
    for field in fields:
        # A deferred field is one that the instance does not have: reading it would query.
        if field.attname not in instance.__dict__:
            continue
        value = instance.__dict__[field.attname]
        if type(value) in _IMMUTABLE:
            yield field, value
        elif isinstance(value, FieldFile):
            yield field, value.name
        elif isinstance(value, memoryview):  # PostgreSQL's binary fields.
            yield field, bytes(value)
        elif not hasattr(value, "resolve_expression"):
            # What cannot be copied cannot be compared later; loading it must not fail for that.
            try:
                copied = copy.deepcopy(value)
            except Exception:  # noqa: BLE001, S112
                continue
            yield field, copied


def _rows_values_of(instance: Model, fields: Any) -> dict[str, Any]:
    """Return the values of *fields* as the row that was saved would give them back."""
    using = instance._state.db
    return {
        field.attname: as_stored(field, value, using)
        for field, value in _values_of(instance, fields)
    }


def _keys_of(model: type[Model]) -> list[Field[Any, Any]]:
    """Return what says which row an instance is: the keys of its parents' rows, too."""
    keys = [field for field in model._meta.concrete_fields if field.primary_key]
    return keys or model._meta.pk_fields  # A composite key is no column itself.


#: Whether the instance that is being made comes from a row.
_making = threading.local()


def _look_at_arguments(
    sender: type[Model], args: tuple[Any, ...], kwargs: dict[str, Any], **others: object
) -> None:
    """Tell what ``Model.from_db()`` makes: of a value for each column, in their order."""
    _making.is_from_row = not kwargs and len(args) == len(sender._meta.concrete_fields)


def _remember(instance: Model, **kwargs: object) -> None:
    """
    Remember the values of an instance that was made from a row.

    Of any other nobody knows when it is stored: ``bulk_create()`` sends no signal.
    """
    if _making.is_from_row:
        values = _values_of(instance, instance._meta.concrete_fields)
        known = {field.attname: value for field, value in values}
        instance._state.__dict__[_VALUES] = {None: known}
    _making.is_from_row = False  # One that is made while another is loaded hides that one.


def _forget_foreign(instance: Model, using: str, **kwargs: object) -> None:
    """Forget values that did not come from the row that is going to be saved."""
    if instance._state.adding or instance._state.db != using:
        instance._state.__dict__.pop(_VALUES, None)
