"""Which deliveries run one after the other: those of one receiver, and of one key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..exceptions import SerializationError
from .uniqueness import digest

if TYPE_CHECKING:
    from ..registry import Receiver

__all__ = ["order_key"]


def order_key(receiver: Receiver, sender: object, named: Mapping[str, Any]) -> str | None:
    """
    Return the key of an event, for a receiver with ``order_by``; None: it has no order.

    Raises:
        SerializationError: There is nothing at the path, or a value that cannot travel.
    """
    by = receiver.options.order_by
    value = by(sender, **named) if callable(by) else _at(str(by), receiver, sender, named)
    return None if value is None else digest(receiver, {"order_by": value})


def _at(path: str, receiver: Receiver, sender: object, named: Mapping[str, Any]) -> Any:
    value: Any = {**named, "sender": sender}
    for name in path.split("."):
        try:
            value = value[name] if isinstance(value, Mapping) else getattr(value, name)
        except (KeyError, AttributeError):
            raise SerializationError(
                receiver=receiver.name,
                path=path,
                value_type="nothing",
                reason=f"expected something called {name!r} there, as order_by has it",
                cure="Send it, or let order_by be a function of (sender, **kwargs).",
            ) from None
    return value
