"""By what an event with ``unique_by`` is known: one text for equal values, in every process."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from .. import codec
from ..exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..registry import Receiver

__all__ = ["digest", "unique_key"]

#: Containers whose order says nothing.
_UNORDERED = ("set", "frozenset", "dict")


def unique_key(
    receiver: Receiver, sender: object, named: Mapping[str, Any], *, deletes: bool
) -> str | None:
    """
    Return the key of an event, for a receiver with ``unique_by``; None: it is always sent.

    What *deletes* is equal only to another deletion: it is no repetition of a save.

    Raises:
        SerializationError: An argument is missing, or has a value that cannot travel.
    """
    by = receiver.options.unique_by
    values: dict[str, Any]
    if callable(by):
        value = by(sender, **named)
        if value is None:
            return None
        values = {"unique_by": value}
    else:
        arguments = {**named, "sender": sender}
        for name in by or ():
            if name not in arguments:
                raise SerializationError(
                    receiver=receiver.name,
                    path=name,
                    value_type="nothing",
                    reason="expected an argument of that name, as unique_by has it",
                    cure="Send it, or let unique_by be a function of (sender, **kwargs).",
                )
        values = {name: arguments[name] for name in by or ()}
    return digest(receiver, {"deletes": True, **values} if deletes else values)


def digest(receiver: Receiver, values: dict[str, Any]) -> str:
    """
    Return one text for equal values of one receiver: a SHA-256, in hex.

    Raises:
        SerializationError: One of them cannot travel.
    """
    # By reference: instances count by label, alias and key, whatever else they hold.
    encoded = codec.encode(values, receiver=receiver.name)
    text = json.dumps([receiver.name, _in_order(encoded)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _in_order(data: Any) -> Any:
    """Return JSON that is equal for equal sets and dicts."""
    if isinstance(data, dict):
        ordered = {key: _in_order(value) for key, value in data.items()}
        if data.get("$") in _UNORDERED:
            ordered["v"].sort(key=json.dumps)
        return ordered
    if isinstance(data, (list, tuple)):
        return [_in_order(item) for item in data]
    return data
