"""Model classes, by their labels, and how their rows are found by primary keys."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections
from django.db.models import DEFERRED, Model, QuerySet

from .importables import imported, path_of
from .table import Unsendable, add_family, add_tag, add_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .table import Encoder

# -- Classes: a model by its label, any other by its path


@functools.cache
def model_at(label: str) -> type[Model]:
    """Return the model labelled *label*; raises LookupError."""
    return apps.get_model(label)


@functools.cache
def label_of(model: type[Model]) -> str:
    """Return the label under which workers find *model*; raises Unsendable."""
    label = model._meta.label_lower
    try:
        found = apps.get_model(label)
    except LookupError:
        found = None
    if found is not model:
        raise Unsendable(model, f"expected the model that is installed as {label!r}")
    return label


def _encode_class(value: type, encoder: Encoder) -> Any:
    # Model itself has no options.
    if issubclass(value, Model) and value is not Model and not value._meta.abstract:
        return _model_class(value)
    return {"$": "class", "v": ["path", path_of(value)]}


@functools.cache  # Nobody writes in what is encoded; and what is the same is quickly compared.
def _model_class(model: type[Model]) -> dict[str, Any]:
    return {"$": "class", "v": ["model", label_of(model)]}


def _decode_class(data: Any) -> type:
    how, name = data
    found = model_at(name) if how == "model" else imported(name)
    if not issubclass(type(found), type):
        raise TypeError(how)
    return found


def _encode_deferred(value: object, encoder: Encoder) -> Any:
    return {"$": "deferred", "v": None}


add_family(lambda kind: issubclass(kind, type), _encode_class)
add_tag("class", _decode_class)
# Stands for a deferred field among the arguments of pre_init.
add_type(type(DEFERRED), _encode_deferred)
add_tag("deferred", lambda data: DEFERRED)

# -- Rows, by primary keys


def rows_of(model: type[Model], alias: str | None) -> QuerySet[Any]:
    """Return all rows of *model*, also those that its default manager hides."""
    if alias is not None and alias not in connections:
        raise LookupError(alias)
    return model._base_manager.using(alias)


# -- Rehearsals: decoding without a row

#: Whether rows are not fetched: what refers to one becomes an instance with nothing but its key.
is_rehearsal: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "async_signals_rehearsal", default=False
)


@contextlib.contextmanager
def rehearsal() -> Iterator[None]:
    """Decode without a query inside the ``with`` block, as if every row were there."""
    token = is_rehearsal.set(True)
    try:
        yield
    finally:
        is_rehearsal.reset(token)


def stand_in(model: type[Model], alias: str | None, pk: Any) -> Model:
    """Return an instance that has its key; all its other fields are deferred."""
    names = [field.attname for field in model._meta.pk_fields]
    return model.from_db(alias, names, pk if len(names) > 1 else [pk])
