"""
Primary keys in encoded arguments, with the names that they go by.

A reference to a row has the key without a name: that of the model's field says whether it is
secret, as the key of a session is. Pure: knows JSON and the models of the site, no tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["REFERENCES", "key_names", "labels_in", "with_keys"]

#: The codec's tags of what refers to rows: label, alias, and a key or a list of keys.
REFERENCES = ("model", "both", "queryset")

#: Values that are looked at; beyond that, only what looks at the structure finds a key.
_MAX_VALUES = 20_000


def key_names(label: object) -> set[str]:
    """Return what the primary key of the model labelled *label* is called, with ``pk``."""
    names = {"pk"}
    try:
        fields: list[Any] = list(apps.get_model(str(label))._meta.pk_fields)
    except (LookupError, ValueError):  # The model is not here.
        return names
    for found in fields:
        field = found
        names |= {field.name, field.attname}
        while field.remote_field is not None:  # The key of a child is that of its parent.
            field = field.target_field
            names |= {field.name, field.attname}
    return names


def with_keys(kwargs: Mapping[str, object] | None, encoded: object) -> dict[str, object]:
    """Return *kwargs* with the primary keys in *encoded* by their names, for a search by name."""
    return {**(kwargs or {}), "": list(_keys_in(encoded))}


def labels_in(encoded: object) -> set[str]:
    """Return the labels of the models that *encoded* refers to."""
    return {str(value[0]) for value in _references_in(encoded)}


def _keys_in(encoded: object) -> Iterator[dict[str, object]]:
    for value in _references_in(encoded):
        leaves = list(_leaves(value[2]))
        if leaves:
            yield dict.fromkeys(key_names(value[0]), leaves)


def _references_in(encoded: object) -> Iterator[list[Any]]:
    waiting, looked = [encoded], 0
    while waiting and looked < _MAX_VALUES:
        data, looked = waiting.pop(), looked + 1
        if isinstance(data, dict):
            value = data.get("v")
            if data.get("$") in REFERENCES and isinstance(value, list) and len(value) > 2:
                yield value
            waiting.extend(data.values())
        elif isinstance(data, (list, tuple)):
            waiting.extend(data)


def _leaves(key: Any, depth: int = 5) -> Iterator[object]:
    """Yield the texts and numbers that a key consists of, without tags and names of fields."""
    if isinstance(key, dict):
        inner = key.get("v")
        if key.get("$") == "by_field" and isinstance(inner, list):
            inner = inner[2:]
        key = [inner]
    if isinstance(key, (list, tuple)):
        for part in key if depth else ():
            yield from _leaves(part, depth - 1)
    elif isinstance(key, (str, int)):
        yield key
