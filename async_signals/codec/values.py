"""
The table of types, and the walk through a value and back.

What JSON has stays as it is; every other type becomes ``{"$": tag, "v": JSON}``. A dict
that could be taken for such a tag is written as pairs, so no data can pose as a type.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import decimal
import math
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

from django.utils.functional import LazyObject, Promise

from ..exceptions import DecodeError, RegistrationError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Encoder", "Unsendable", "decode", "decoding", "encode", "register"]

CURE = "Leave it out with @async_receiver(..., exclude=[{argument!r}]), or send its primary key."

#: Beyond this, JSON readers other than Python's may lose digits.
_PLAIN_INT = 2**53


class Unsendable(Exception):  # noqa: N818  (never leaves the codec)
    """A value that cannot travel, with the way to it; turned into SerializationError."""

    def __init__(self, value: object, reason: str, cure: str = CURE) -> None:
        self.value_type = type(value)
        self.reason = reason
        self.cure = cure
        self.path: list[str] = []


class Encoder:
    """One walk from a value to JSON."""

    __slots__ = ("gone", "snapshot")

    def __init__(self, *, gone: bool = False, snapshot: bool = False) -> None:
        self.gone = gone  #: The rows of the instances are being deleted.
        self.snapshot = snapshot  #: Send each instance's fields along with its reference.

    def encode(self, value: object) -> Any:
        """Return *value* as JSON; raises Unsendable."""
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        entry = _by_type.get(kind)
        if entry is None:
            entry = _find(kind)
            if entry is None:
                raise Unsendable(value, "expected a value of a type that can travel")
        return entry(value, self)


_by_type: dict[type, Callable[[Any, Encoder], Any]] = {}
_by_family: list[tuple[type, Callable[[Any, Encoder], Any]]] = []
_by_tag: dict[str, Callable[[Any], Any]] = {}


def _find(kind: type) -> Callable[[Any, Encoder], Any] | None:
    """Return the entry of the family that *kind* belongs to, and remember it."""
    for family, entry in _by_family:
        if issubclass(kind, family):
            _by_type[kind] = entry
            return entry
    return None


def add(
    kind: type,
    tag: str,
    encode: Callable[[Any, Encoder], Any],
    decode: Callable[[Any], Any],
    *,
    family: bool = False,
) -> None:
    """Put a type, or with *family* a type and its subclasses, into the table."""

    def entry(value: Any, encoder: Encoder) -> Any:
        return {"$": tag, "v": encode(value, encoder)}

    _by_tag[tag] = decode
    if family:
        _by_family.append((kind, entry))
    else:
        _by_type[kind] = entry


def register(
    kind: type, tag: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]
) -> None:
    """
    Teach the codec a type of yours; subclasses are not included.

    Args:
        kind: The type.
        tag: Its name in messages; once published it can never mean anything else.
        encode: From a value of *kind* to a value that the codec knows.
        decode: The way back.

    Raises:
        RegistrationError: The tag or the type is taken.
    """
    if tag in _by_tag or kind in _by_type:
        taken = f"tag {tag!r}" if tag in _by_tag else f"type {kind.__qualname__}"
        raise RegistrationError(
            f"cannot register {kind.__module__}.{kind.__qualname__} under {tag!r}: expected a "
            f"type and a tag that are free, got: a known {taken}. Choose a tag of your own, "
            "'app_label.what'."
        )
    add(
        kind,
        tag,
        lambda value, encoder: encoder.encode(encode(value)),
        lambda data: decode(decode_value(data)),
    )


def encode(
    arguments: dict[str, Any], *, receiver: str, gone: bool = False, snapshot: bool = False
) -> dict[str, Any]:
    """
    Return *arguments*, each as JSON.

    Args:
        arguments: What a signal was sent with, by name.
        receiver: Name of the receiver, for the message of an error.
        gone: The rows of the instances are being deleted: send their fields instead.
        snapshot: Send the fields of an instance along with the reference to its row.

    Raises:
        SerializationError: A value cannot travel.
    """
    encoder = Encoder(gone=gone, snapshot=snapshot)
    encoded = {}
    for name, value in arguments.items():
        try:
            encoded[name] = encoder.encode(value)
        except Unsendable as exc:
            raise SerializationError(
                receiver=receiver,
                path=name + "".join(reversed(exc.path)),
                value_type=f"{exc.value_type.__module__}.{exc.value_type.__qualname__}",
                reason=exc.reason,
                cure=exc.cure.format(argument=name),
            ) from None
        except RecursionError:
            raise SerializationError(
                receiver=receiver,
                path=name,
                value_type=f"{type(value).__module__}.{type(value).__qualname__}",
                reason="expected a value without a circle and not nested beyond reason",
                cure=CURE.format(argument=name),
            ) from None
    return encoded


#: Values are rebuilt in this context, so that an instance may be made that is not new.
decoding: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "async_signals_decoding", default=False
)


def decode(data: Any) -> Any:
    """
    Return the value whose JSON is *data*.

    Raises:
        DecodeError: The data has an unknown tag, or one whose content is malformed.
        MissingInstanceError: It refers to a row that does not exist.
    """
    token = decoding.set(True)
    try:
        return decode_value(data)
    except RecursionError:
        raise DecodeError(
            "cannot decode a value: expected one not nested beyond reason, got: RecursionError."
        ) from None
    finally:
        decoding.reset(token)


def decode_value(data: Any) -> Any:
    """Return the value of *data*, without the net that ``decode()`` holds under it."""
    if type(data) is list:
        return [decode_value(item) for item in data]
    if type(data) is not dict:
        return data
    if "$" not in data:
        return {key: decode_value(item) for key, item in data.items()}
    tag = data["$"]
    decoder = _by_tag.get(tag) if type(tag) is str else None
    if decoder is None:
        raise DecodeError(
            f"cannot decode a value of type {tag!r}: expected a type that this process knows. "
            "Deploy workers before senders, and call codec.register() in AppConfig.ready()."
        )
    try:
        return decoder(data["v"])
    except (ArithmeticError, AttributeError, KeyError, LookupError, TypeError, ValueError) as exc:
        # The kind of fault only: what it quotes may be data that a log must not hold.
        raise DecodeError(
            f"cannot decode a value of type {tag!r}: expected the JSON that this release writes, "
            f"got: content that raises {type(exc).__name__}. Deploy workers before senders."
        ) from None


# -- What JSON has


def _encode_int(value: int, encoder: Encoder) -> Any:
    if -_PLAIN_INT < value < _PLAIN_INT:
        return value
    # In hexadecimal: Python limits the length of decimal digits that it reads.
    return {"$": "int", "v": hex(value)}


def _encode_float(value: float, encoder: Encoder) -> Any:
    return value if math.isfinite(value) else {"$": "float", "v": repr(value)}


def _encode_items(values: Any, encoder: Encoder) -> list[Any]:
    encoded = []
    for index, value in enumerate(values):
        try:
            encoded.append(encoder.encode(value))
        except Unsendable as exc:
            exc.path.append(f"[{index}]")
            raise
    return encoded


def _encode_dict(values: dict[Any, Any], encoder: Encoder) -> Any:
    plain = "$" not in values and all(type(key) is str for key in values)
    encoded = []
    for key, value in values.items():
        try:
            encoded.append((key if plain else encoder.encode(key), encoder.encode(value)))
        except Unsendable as exc:
            exc.path.append(f"[{key!r}]" if type(key) in (str, int) else "[...]")
            raise
    return dict(encoded) if plain else {"$": "dict", "v": encoded}


_by_type[int] = _encode_int
_by_type[float] = _encode_float
_by_type[list] = _encode_items
_by_type[dict] = _encode_dict
_by_tag["int"] = lambda data: int(data, 16)
_by_tag["float"] = float
_by_tag["dict"] = lambda data: {decode_value(key): decode_value(item) for key, item in data}

# -- What only Python has


def _encode_unordered(values: Any, encoder: Encoder) -> list[Any]:
    try:
        return [encoder.encode(value) for value in values]
    except Unsendable as exc:
        exc.path.append("{...}")
        raise


def _decode_items(data: Any) -> list[Any]:
    return [decode_value(item) for item in data]


add(tuple, "tuple", _encode_items, lambda data: tuple(_decode_items(data)))
add(set, "set", _encode_unordered, lambda data: set(_decode_items(data)))
add(frozenset, "frozenset", _encode_unordered, lambda data: frozenset(_decode_items(data)))
add(bytes, "bytes", lambda value, _: value.hex(), bytes.fromhex)
add(decimal.Decimal, "decimal", lambda value, _: str(value), decimal.Decimal)
add(uuid.UUID, "uuid", lambda value, _: value.hex, lambda data: uuid.UUID(hex=data))
add(dt.date, "date", lambda value, _: value.isoformat(), dt.date.fromisoformat)
add(
    dt.timedelta,
    "timedelta",
    lambda value, _: [value.days, value.seconds, value.microseconds],
    lambda data: dt.timedelta(*data),
)

# Zones: by name, so that daylight saving time is still known on the other side.


def _encode_zone(value: dt.datetime | dt.time) -> Any:
    zone = value.tzinfo
    if zone is None:
        return None
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return zone.key
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        return [offset.days, offset.seconds, offset.microseconds]
    raise Unsendable(
        value, f"expected a zoneinfo or fixed-offset time zone, not {type(zone).__qualname__}"
    )


def _decode_zone(data: Any) -> dt.tzinfo | None:
    if data is None:
        return None
    if isinstance(data, str):
        return zoneinfo.ZoneInfo(data)
    return dt.timezone(dt.timedelta(*data))


def _encode_moment(value: Any, encoder: Encoder) -> list[Any]:
    return [value.replace(tzinfo=None, fold=0).isoformat(), _encode_zone(value), value.fold]


def _decode_datetime(data: Any) -> dt.datetime:
    text, zone, fold = data
    return dt.datetime.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


def _decode_time(data: Any) -> dt.time:
    text, zone, fold = data
    return dt.time.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


add(dt.datetime, "datetime", _encode_moment, _decode_datetime)
add(dt.time, "time", _encode_moment, _decode_time)

# -- What stands for something else


def _encode_lazy(value: LazyObject[Any], encoder: Encoder) -> Any:
    """Encode what a lazy object stands for, such as ``request.user``."""
    _, (wrapped,) = value.__reduce__()
    return encoder.encode(wrapped)


_by_family.append((LazyObject, _encode_lazy))
_by_family.append((Promise, lambda value, encoder: str(value)))
