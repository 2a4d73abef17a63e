"""
Dataclasses and named tuples: the class by its path, the values by their names.

They are rebuilt without ``__new__``, ``__init__`` or ``__post_init__`` of their class, because
decoding must call nothing that a payload names.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import TYPE_CHECKING, Any

from .importables import imported, path_of
from .table import Unsendable, add_family, add_tag, decode_attributes

if TYPE_CHECKING:
    from collections.abc import Collection

    from .table import Encoder

# -- Dataclasses


def _encode_dataclass(value: Any, encoder: Encoder) -> Any:
    kind = type(value)
    path = path_of(kind)
    try:
        object.__new__(kind)
    except TypeError:
        raise Unsendable(value, "expected a dataclass that extends no builtin type") from None
    state = _state_of(value)
    if _lacks(kind, state):
        raise Unsendable(value, "expected a dataclass whose fields all have a value")
    return {"$": "dataclass", "v": [path, encoder.encode_attributes(state)]}


def _decode_dataclass(data: Any) -> Any:
    path, values = data
    kind = imported(path)
    if not dataclasses.is_dataclass(kind) or not isinstance(kind, type):
        raise TypeError(path)
    if _lacks(kind, values):
        raise LookupError(path)
    record = object.__new__(kind)
    slots = _slots_of(kind)
    for name, value in decode_attributes(values).items():
        # Past __setattr__, which frozen ones refuse, and past properties, which would be calls.
        if name in slots:
            slots[name].__set__(record, value)
        else:
            object.__getattribute__(record, "__dict__")[name] = value
    return record


def _state_of(value: Any) -> dict[str, Any]:
    """Return all that *value* holds, also what is not a field."""
    state = dict(getattr(value, "__dict__", {}))
    state.pop("__orig_class__", None)  # The mark of typing on what Box[int](...) has made.
    for name, slot in _slots_of(type(value)).items():  # type: ignore[arg-type]  # A class is hashable.
        try:
            state[name] = slot.__get__(value)
        except AttributeError:  # Never set.
            continue
    return state


@functools.cache
def _slots_of(kind: type) -> dict[str, types.MemberDescriptorType]:
    return {
        name: member
        for base in kind.__mro__
        for name, member in vars(base).items()
        if type(member) is types.MemberDescriptorType
    }


def _lacks(kind: Any, names: Collection[str]) -> bool:
    """Whether a field has neither a value nor a default that stands in the class."""
    return any(
        field.name not in names and field.default is dataclasses.MISSING
        for field in dataclasses.fields(kind)
    )


# -- Named tuples


def _is_namedtuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _encode_namedtuple(value: Any, encoder: Encoder) -> Any:
    if getattr(value, "__dict__", None):
        raise Unsendable(value, "expected a named tuple without other attributes")
    values = dict(zip(value._fields, value, strict=True))
    return {"$": "namedtuple", "v": [path_of(type(value)), encoder.encode_attributes(values)]}


def _decode_namedtuple(data: Any) -> Any:
    path, values = data
    kind = imported(path)
    if not _is_namedtuple(kind) or {*kind._fields} != values.keys():
        raise TypeError(path)
    decoded = decode_attributes(values)
    return tuple.__new__(kind, [decoded[name] for name in kind._fields])


add_family(_is_namedtuple, _encode_namedtuple)
add_family(dataclasses.is_dataclass, _encode_dataclass)
add_tag("dataclass", _decode_dataclass)
add_tag("namedtuple", _decode_namedtuple)
