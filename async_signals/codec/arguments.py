"""The arguments of a signal <-> JSON: the walk, and the net under it."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ..conf import get_settings
from ..exceptions import DecodeError, MessageTooLargeError, SerializationError
from .table import CURE, MAX_DEPTH, Encoder, TooMuch, Unsendable, decode_value, is_plain

if TYPE_CHECKING:
    from .table import Mode


def encode(
    arguments: dict[str, Any],
    *,
    receiver: str,
    instance: Mode = "reference",
    gone: bool = False,
    fallback: bool = False,
) -> dict[str, Any]:
    """
    Return *arguments*, each as JSON.

    Args:
        arguments: What a signal was sent with, by name.
        receiver: Name of the receiver, for the message of an error.
        instance: How instances of models travel; as the option of that name.
        gone: The rows of the instances are being deleted: send their fields instead.
        fallback: Send the fields of an instance along with the reference to its row.

    Raises:
        SerializationError: A value cannot travel.
        MessageTooLargeError: One holds more values than a message may have bytes.
    """
    if not _plain_names.issuperset(arguments):
        _check_names(arguments, receiver)
    encoder = Encoder(instance, gone, fallback)
    encoded: dict[str, Any] = {}
    try:
        for name, value in arguments.items():
            # Most stay as they are, and this is in the way of every sender.
            if (
                value is None
                or value is True
                or value is False
                or (type(value) is str and value.isascii())
            ):
                encoded[name] = value
            else:
                encoder.held = 0
                encoded[name] = encoder.encode(value)
    except Unsendable as exc:
        raise SerializationError(
            receiver=receiver,
            path=name + "".join(reversed(exc.path)),
            value_type=_name_of(exc.value_type),
            reason=exc.reason,
            cure=exc.cure.format(argument=name),
        ) from exc.__cause__
    except TooMuch:
        raise MessageTooLargeError(
            receiver,
            name,
            encoder.held,
            encoder.held,
            get_settings().max_message_size,
            is_whole=False,
        ) from None
    except RecursionError:
        raise SerializationError(
            receiver=receiver,
            path=name,
            value_type=_name_of(type(value)),
            reason=f"expected a value without a circle, at most {MAX_DEPTH} levels deep",
            cure=CURE.format(argument=name),
        ) from None
    return encoded


#: Names of arguments that were found to be plain; each signal has the same ones.
_plain_names: set[str] = set()
#: Names that are remembered, at most: a site may make some up.
_MAX_NAMES = 1_000


def _check_names(arguments: dict[str, Any], receiver: str) -> None:
    """Remember the names of *arguments* that come back from JSON, and as arguments."""
    for name, value in arguments.items():
        if name == "$" or not is_plain(name):
            raise SerializationError(
                receiver=receiver,
                path=name,
                value_type=_name_of(type(value)),
                reason="expected a name other than that of a tag",
                cure=CURE.format(argument=name),
            )
    if len(_plain_names) + len(arguments) > _MAX_NAMES:
        _plain_names.clear()
    _plain_names.update(arguments)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


#: Values are rebuilt in this context, so that an instance may be made that is not new.
decoding: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "async_signals_decoding", default=False
)


def decode(data: Any) -> Any:
    """
    Return the value whose JSON is *data*, or the arguments that ``encode()`` has encoded.

    Raises:
        DecodeError: The data has an unknown tag, or one whose content is malformed.
        MissingInstanceError: It refers to a row that does not exist.
    """
    if type(data) is not dict and type(data) is not list:
        return data
    token = decoding.set(True)
    try:
        return decode_value(data)
    except RecursionError:
        raise DecodeError(
            "cannot decode a value: expected one not nested beyond reason, got: RecursionError."
        ) from None
    finally:
        decoding.reset(token)
