"""
The table of types: how each becomes JSON, and how JSON becomes it again.

What JSON has stays as it is; every other type becomes ``{"$": tag, "v": JSON}``. The modules
beside this one put their types in; nothing here knows any but the plainest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError

from ..conf import get_settings
from ..exceptions import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Encode: TypeAlias = Callable[[Any, "Encoder"], Any]
    Decode: TypeAlias = Callable[[Any], Any]
    Mode: TypeAlias = Literal["reference", "snapshot", "both"]

CURE = (
    "Leave it out with @async_receiver(..., exclude=[{argument!r}]), or send plain values, such as "
    "a primary key, in its place."
)

#: Beyond this, JSON readers other than Python's may lose digits.
PLAIN_INT = 2**53

#: Between two halves of a character that JSON readers would join.
SEAM = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")

#: An attribute by which Django takes any object for an expression, and calls it.
CALLED = "resolve_expression"

#: Values that are walked before anybody asks how many a message may hold.
_FEW = 1_000

#: Levels of nesting. The worker, whose stack is another, must be able to read what was sent.
MAX_DEPTH = 100


def is_plain(text: str) -> bool:
    """Whether *text* comes back from JSON as it is: without adjacent halves of a character."""
    return text.isascii() or SEAM.search(text) is None


class Unsendable(Exception):  # noqa: N818  (never leaves the codec)
    """A value that cannot travel, with the way to it; turned into SerializationError."""

    def __init__(self, value: object, reason: str, cure: str = CURE) -> None:
        self.value_type = type(value)
        self.reason = reason
        self.cure = cure
        self.path: list[str] = []


class TooMuch(Exception):  # noqa: N818  (never leaves the codec)
    """More values than a message has bytes; turned into MessageTooLargeError."""


#: What JSON holds other JSON in; all else is a value already.
_NESTED = frozenset({dict, list})

#: What a decoder raises for content that is none.
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValidationError,
    ValueError,
)

#: What a database raises that is away: no fault of a message, which is good once it is back.
AWAY = (OperationalError, InterfaceError)

#: What JSON has as it is.
_PLAIN = frozenset({bool, type(None)})

#: Types that were put into the table by themselves.
_by_type: dict[type, Encode] = {}
_by_family: list[tuple[Callable[[type], bool], Encode]] = []
#: Types that were met, those of families too: what the walk looks into.
_met: dict[type, Encode] = {}
_by_tag: dict[str, Decode] = {}


def add_type(kind: type, encode: Encode) -> None:
    """Write values whose type is *kind* itself with ``encode(value, encoder) -> JSON``."""
    _by_type[kind] = encode
    _met[kind] = encode


def add_family(belongs: Callable[[type], bool], encode: Encode) -> None:
    """Write values of every type that *belongs* says yes to, and that has no entry itself."""
    _by_family.append((belongs, encode))


def add_tag(tag: str, decode: Decode) -> None:
    """Read ``{"$": tag, "v": data}`` with ``decode(data)``."""
    _by_tag[tag] = decode


def is_known(kind: type) -> bool:
    """Whether *kind* itself, not only its family, is in the table."""
    return kind in _by_type or kind in _PLAIN


def is_tag(tag: str) -> bool:
    """Whether *tag* has a meaning, or may get one: those without a dot are the codec's own."""
    return tag in _by_tag or "." not in tag


class Encoder:
    """One walk from a value to JSON."""

    __slots__ = ("depth", "fallback", "gone", "held", "instance")

    def __init__(
        self,
        instance: Mode = "reference",
        gone: bool = False,  # noqa: FBT001, FBT002  (by its place: one is made for each event)
        fallback: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.instance = instance  #: How instances of models travel.
        self.gone = gone  #: The rows of the instances are being deleted.
        self.fallback = fallback  #: Send fields along with a reference, in case the row is gone.
        self.depth = 0  #: Levels that the walk is inside.
        #: Values that an argument holds so far; each takes a byte at least. What is held in many
        #: places is walked in each of them, so a few lists can hold more than there is time for.
        self.held = 0

    def encode(self, value: Any) -> Any:
        """
        Return *value* as JSON.

        Raises:
            Unsendable: It, or something in it, cannot travel.
            RecursionError: It is nested deeper than MAX_DEPTH, or contains itself.
            TooMuch: It holds more values than a message may have bytes.
        """
        kind = type(value)
        if kind is str:
            if value.isascii() or SEAM.search(value) is None:  # is_plain(), without a call.
                return value
        elif kind is bool or value is None:
            return value
        if kind is int and -PLAIN_INT < value < PLAIN_INT:
            return value
        if self.depth >= MAX_DEPTH:
            raise RecursionError
        self.depth += 1
        try:
            return (_met.get(kind) or _find(kind, value))(value, self)
        except (Unsendable, RecursionError, TooMuch):
            raise
        except Exception as exc:  # Code of the value's own: a lazy object, a registered function.
            raise Unsendable(
                value,
                f"expected a value that can be read, not one that raises {type(exc).__name__}",
            ) from exc
        finally:
            self.depth -= 1

    def expect(self, count: int) -> None:
        """Make sure that *count* values may come, before any of them does; raises TooMuch."""
        self.held += count
        if self.held > _FEW and self.held > get_settings().max_message_size:
            raise TooMuch

    def encode_attributes(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Return *values*, attributes by name, each as JSON; raises as ``encode()`` does."""
        self.expect(len(values))
        encoded = {}
        for name, value in values.items():
            try:
                if type(name) is not str or not is_plain(name) or name == CALLED:
                    raise Unsendable(  # noqa: TRY301
                        value,
                        f"expected an attribute whose name is a plain text, and not {CALLED!r}",
                    )
                encoded[name] = self.encode(value)
            except Unsendable as exc:
                exc.path.append(f".{name}")
                raise
        return encoded


def decode_attributes(data: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that ``Encoder.encode_attributes()`` has written."""
    if CALLED in data:
        raise LookupError(CALLED)
    return {name: decode_value(item) for name, item in data.items()}


def _find(kind: type, value: object) -> Encode:
    """Return the entry of the family that *kind* belongs to, and remember it."""
    for belongs, entry in _by_family:
        if belongs(kind):
            _met[kind] = entry
            return entry
    raise Unsendable(value, "expected a value of a type that can travel")


def decode_value(data: Any) -> Any:
    """
    Return the value of *data*.

    Raises:
        DecodeError: The data has an unknown tag, or one whose content is malformed.
        MissingInstanceError: It refers to a row that does not exist.
        RecursionError: It is nested beyond reason.
    """
    kind = type(data)
    if kind is list:
        return [decode_value(item) if type(item) in _NESTED else item for item in data]
    if kind is not dict:
        return data
    if "$" not in data:
        return {
            key: decode_value(item) if type(item) in _NESTED else item for key, item in data.items()
        }
    tag = data["$"]
    decode = _by_tag.get(tag) if type(tag) is str else None
    if decode is None:
        raise DecodeError(
            f"cannot decode a value of type {tag!r}: expected a type that this process knows. "
            "Deploy workers before senders, and call codec.register() in AppConfig.ready()."
        )
    try:
        return decode(data["v"])
    except MALFORMED as exc:
        # The kind of fault only: what it quotes may be data that a log must not hold.
        raise DecodeError(
            f"cannot decode a value of type {tag!r}: expected the JSON that this release writes, "
            f"got: content that raises {type(exc).__name__}. Deploy workers before senders."
        ) from None
