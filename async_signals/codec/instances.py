"""
Model instances: a reference to the row, a snapshot of the fields, or both.

A reference is the model's label, the primary key and the alias; the worker fetches the row.
A snapshot has the loaded fields, as they were at send; where there is no row to fetch, it
travels anyhow. Encoding reads no database, and related objects stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Model

from ..exceptions import MissingInstanceError
from . import snapshots
from .keys import REFUSED, decode_key, encode_key, is_of_the_key
from .models import is_rehearsal, label_of, model_at, rows_of, stand_in
from .table import PLAIN_INT, Unsendable, add_family, add_tag

if TYPE_CHECKING:
    from .table import Encoder


def _encode_instance(instance: Model, encoder: Encoder) -> Any:
    kind = type(instance)
    state = instance._state
    pk = None if encoder.gone or state.adding else instance.pk
    if type(pk) is int and encoder.instance == "reference" and not encoder.fallback:  # Most.
        key = pk if -PLAIN_INT < pk < PLAIN_INT else encoder.encode(pk)
        return {"$": "model", "v": [label_of(kind), state.db, key, None]}
    if type(pk) is tuple and None in pk:  # A composite one, not complete.
        pk = None
    both = encoder.instance == "both"
    if both and hasattr(kind, "sent"):
        raise Unsendable(
            instance,
            "expected a model without an attribute 'sent', where instance='both' puts the snapshot",
            "Choose instance='snapshot' or instance='reference'.",
        )
    snapshot = None
    if encoder.fallback or encoder.instance != "reference" or pk is None:
        snapshot = snapshots.take(instance, encoder)
        if encoder.instance == "snapshot":
            pk = None
    key = None if pk is None else _encode_key(kind, pk, encoder)
    data = [label_of(kind), state.db, key, snapshot]
    if both:
        return {"$": "both", "v": [*data, encoder.fallback]}
    return {"$": "model", "v": data}


def _encode_key(model: type[Model], pk: Any, encoder: Encoder) -> Any:
    try:
        return encode_key(model, pk, encoder)
    except Unsendable as exc:
        exc.path.append(".pk")
        raise


def _decode_instance(data: Any) -> Model:
    label, alias, pk, snapshot = data
    model = model_at(label)
    instance = None if pk is None else _fetch(model, alias, decode_key(model, pk))
    if instance is not None:
        return instance
    if snapshot is None:
        raise MissingInstanceError(label, decode_key(model, pk), alias)
    return snapshots.rebuild(model, alias, snapshot)


def _decode_both(data: Any) -> Model:
    label, alias, pk, snapshot, fallback = data
    first = snapshot if fallback or pk is None else None
    instance: Any = _decode_instance([label, alias, pk, first])
    instance.sent = snapshots.rebuild(type(instance), alias, snapshot)
    return instance  # type: ignore[no-any-return]  # Any for the sake of .sent.


def _fetch(model: type[Model], alias: str | None, pk: Any) -> Model | None:
    if is_rehearsal.get():
        return stand_in(model, alias, pk)
    try:
        found: Model = rows_of(model, alias).get(pk=pk)
    except model.DoesNotExist:  # type: ignore[attr-defined]  # Each model has its own.
        return None
    except REFUSED as exc:
        if is_of_the_key(exc):  # A key that the column cannot have: a fault of the message.
            raise ValueError(model._meta.label) from None
        raise
    found._state.db = alias  # As it was: None leaves the database to the router.
    return found


add_family(lambda kind: issubclass(kind, Model), _encode_instance)
add_tag("model", _decode_instance)
add_tag("both", _decode_both)
