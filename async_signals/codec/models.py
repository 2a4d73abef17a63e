"""
Model instances, model classes and querysets.

An instance travels as a reference, its label, primary key and alias, and is fetched in
the worker; where there is no row to fetch, its fields travel instead. Nothing here reads
the database while it encodes but a queryset that was not evaluated yet.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models import DEFERRED, Model, QuerySet
from django.db.models.fields.files import FieldFile

from ..exceptions import MissingInstanceError
from .importables import find, path_of
from .values import Encoder, Unsendable, add, decode_value


def _model_at(label: str) -> type[Model]:
    return apps.get_model(label)


def _label_of(model: type[Model]) -> str:
    label = model._meta.label_lower
    try:
        found = apps.get_model(label)
    except LookupError:
        found = None
    if found is not model:
        raise Unsendable(model, f"expected the model that is installed as {label!r}")
    return label


# -- Instances


def _encode_instance(instance: Model, encoder: Encoder) -> list[Any]:
    label, alias = _label_of(type(instance)), instance._state.db
    if encoder.gone or instance._state.adding or instance.pk is None:
        return [label, alias, None, _snapshot(instance, encoder)]
    snapshot = _snapshot(instance, encoder) if encoder.snapshot else None
    return [label, alias, encoder.encode(instance.pk), snapshot]


def _snapshot(instance: Model, encoder: Encoder) -> list[Any]:
    """Return whether the instance is new, and its loaded fields by their attributes' names."""
    values = {}
    for field in instance._meta.concrete_fields:
        # Deferred fields are those that the instance does not have: reading one would query.
        if field.attname in instance.__dict__:
            value = instance.__dict__[field.attname]
            if isinstance(value, FieldFile):
                value = value.name
            try:
                values[field.attname] = encoder.encode(value)
            except Unsendable as exc:
                exc.path.append(f".{field.attname}")
                raise
    return [instance._state.adding, values]


def _decode_instance(data: Any) -> Model:
    label, alias, pk, snapshot = data
    model = _model_at(label)
    if pk is None:
        return _rebuild(model, alias, snapshot)
    pk = decode_value(pk)
    # The base manager: a default manager may hide the row.
    try:
        return model._base_manager.using(alias).get(pk=pk)
    except model.DoesNotExist:  # type: ignore[attr-defined]  # Each model has its own.
        if snapshot is not None:
            return _rebuild(model, alias, snapshot)
        raise MissingInstanceError(label, pk, alias) from None


def _rebuild(model: type[Model], alias: str | None, snapshot: list[Any]) -> Model:
    adding, values = snapshot
    fields = model._meta.concrete_fields
    instance = model.from_db(
        alias,
        [field.attname for field in fields if field.attname in values],
        [decode_value(values[field.attname]) for field in fields if field.attname in values],
    )
    instance._state.adding = adding
    return instance


add(Model, "model", _encode_instance, _decode_instance, family=True)
# Stands for a deferred field among the arguments of pre_init.
add(type(DEFERRED), "deferred", lambda value, encoder: None, lambda data: DEFERRED)

# -- Classes: a model by its label, any other by its path


def _encode_class(value: type, encoder: Encoder) -> list[str]:
    if issubclass(value, Model) and not value._meta.abstract:
        return ["model", _label_of(value)]
    return ["path", path_of(value)]


def _decode_class(data: Any) -> type:
    how, name = data
    found = _model_at(name) if how == "model" else find(name)
    if not isinstance(found, type):
        raise TypeError(how)
    return found


add(type, "class", _encode_class, _decode_class, family=True)

# -- QuerySets: the rows that they held, as primary keys


def _encode_queryset(queryset: QuerySet[Any], encoder: Encoder) -> list[Any]:
    label = _label_of(queryset.model)
    if encoder.gone:
        # The origin of a deletion: its rows are gone, and listing them would cost a query
        # for each instance deleted.
        return [label, queryset.db, []]
    return [label, queryset.db, [encoder.encode(pk) for pk in _primary_keys(queryset)]]


def _primary_keys(queryset: QuerySet[Any]) -> list[Any]:
    rows = queryset._result_cache
    if rows is not None and all(isinstance(row, Model) for row in rows):
        return [row.pk for row in rows]
    return list(queryset.values_list("pk", flat=True))


def _decode_queryset(data: Any) -> QuerySet[Any]:
    label, alias, pks = data
    manager = _model_at(label)._base_manager.using(alias)
    return manager.filter(pk__in=[decode_value(pk) for pk in pks]) if pks else manager.none()


add(QuerySet, "queryset", _encode_queryset, _decode_queryset, family=True)
