"""Types that a site teaches the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import RegistrationError
from .table import Encoder, add_tag, add_type, decode_value, is_known, is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def register(
    kind: type,
    tag: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    *,
    subclasses: Sequence[type] = (),
) -> None:
    """
    Teach the codec a type of yours: *kind* itself and the named subclasses, no others.

    Args:
        kind: The type.
        tag: Its name in messages; once published it can never mean anything else.
        encode: From a value of *kind* to a value that the codec knows.
        decode: The way back. What it returns is of *kind* or of one of the *subclasses*.
        subclasses: Those that *encode* and *decode* also keep apart, for instance by sending
            ``type(value)`` along.

    Raises:
        RegistrationError: The tag or a type is taken, or a subclass is none.
    """
    kinds = (kind, *subclasses)
    for each in kinds:
        if is_tag(tag) or is_known(each):
            taken = f"tag {tag!r}" if is_tag(tag) else f"type {each.__qualname__}"
            raise RegistrationError(
                f"cannot register {each.__module__}.{each.__qualname__} under {tag!r}: expected a "
                f"type and a tag that are free, got: a known {taken}. Choose a tag of your own, "
                "'app_label.what'."
            )
        if not issubclass(each, kind):
            raise RegistrationError(
                f"cannot register {each.__module__}.{each.__qualname__} under {tag!r}: expected a "
                f"subclass of {kind.__qualname__}, got: another type. Register it by itself."
            )

    def encode_one(value: Any, encoder: Encoder) -> Any:
        return {"$": tag, "v": encoder.encode(encode(value))}

    def decode_one(data: Any) -> Any:
        value = decode(decode_value(data))
        if type(value) not in kinds:
            raise TypeError(tag)
        return value

    for each in kinds:
        add_type(each, encode_one)
    add_tag(tag, decode_one)
