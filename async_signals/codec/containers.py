"""
Lists, tuples, sets and dicts.

A value that is held twice travels twice, and arrives as two equal ones. A dict that could be
taken for one of our tags is written as pairs, so no data can pose as a type.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .table import Unsendable, add_tag, add_type, decode_value, is_plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .table import Encoder


def _encode_items(values: Collection[Any], encoder: Encoder) -> list[Any]:
    encoder.expect(len(values))
    encode, encoded = encoder.encode, []
    for index, value in enumerate(values):
        try:
            encoded.append(encode(value))
        except Unsendable as exc:
            exc.path.append("{...}" if isinstance(values, (set, frozenset)) else f"[{index}]")
            raise
    return encoded


def _encode_dict(values: dict[Any, Any], encoder: Encoder) -> Any:
    encoder.expect(len(values))
    encode = encoder.encode
    encoded: dict[str, Any] = {}
    items = iter(values.items())
    for key, value in items:
        if type(key) is not str or key == "$" or not (key.isascii() or is_plain(key)):
            # What came before is encoded already, as its keys are: never encode a level twice.
            rest = itertools.chain([(key, value)], items)
            return {"$": "dict", "v": [*encoded.items(), *_encode_pairs(rest, encoder)]}
        try:
            encoded[key] = encode(value)
        except Unsendable as exc:
            exc.path.append(_step(key))
            raise
    return encoded


def _encode_pairs(items: Iterable[tuple[Any, Any]], encoder: Encoder) -> list[Any]:
    encode, encoded = encoder.encode, []
    for key, value in items:
        try:
            encoded.append((encode(key), encode(value)))
        except Unsendable as exc:
            exc.path.append(_step(key))
            raise
    return encoded


def _step(key: Any) -> str:
    """Return the way to what a dict has under *key*, which may be data: a token, an address."""
    is_word = type(key) is str and key.isidentifier() and not any(map(str.isdigit, key))
    return f"[{key!r}]" if is_word else "[...]"


def _encode_ordered(values: OrderedDict[Any, Any], encoder: Encoder) -> Any:
    if vars(values):
        raise Unsendable(values, "expected an ordered dict without other attributes")
    encoder.expect(len(values))
    return {"$": "ordereddict", "v": _encode_pairs(values.items(), encoder)}


def _encode_tuple(values: tuple[Any, ...], encoder: Encoder) -> Any:
    return {"$": "tuple", "v": _encode_items(values, encoder)}


def _encode_set(values: set[Any], encoder: Encoder) -> Any:
    return {"$": "set", "v": _encode_items(values, encoder)}


def _encode_frozenset(values: frozenset[Any], encoder: Encoder) -> Any:
    return {"$": "frozenset", "v": _encode_items(values, encoder)}


def _decode_items(data: Any) -> list[Any]:
    if type(data) is not list:
        raise TypeError
    return [decode_value(item) for item in data]


def _decode_pairs(data: Any) -> list[tuple[Any, Any]]:
    return [(decode_value(key), decode_value(value)) for key, value in data]


add_type(list, _encode_items)
add_type(tuple, _encode_tuple)
add_type(set, _encode_set)
add_type(frozenset, _encode_frozenset)
add_type(dict, _encode_dict)
add_type(OrderedDict, _encode_ordered)
add_tag("tuple", lambda data: tuple(_decode_items(data)))
add_tag("set", lambda data: set(_decode_items(data)))
add_tag("frozenset", lambda data: frozenset(_decode_items(data)))
add_tag("dict", lambda data: dict(_decode_pairs(data)))
add_tag("ordereddict", lambda data: OrderedDict(_decode_pairs(data)))
