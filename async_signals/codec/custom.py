"""Types that a site teaches the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import DecodeError, RegistrationError
from .table import AWAY, add_tag, add_type, decode_value, is_known, is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .table import Decode, Encode, Encoder


#: The types that a site has taught.
_registered: set[type] = set()


def is_registered(kind: type) -> bool:
    """Whether a site has taught the codec *kind* itself."""
    return kind in _registered


def register(
    kind: type,
    tag: str,
    encode: Callable[[Any], Any],
    decode: Callable[..., Any],
    *,
    subclasses: Sequence[type] = (),
) -> None:
    """
    Teach the codec a type of yours: *kind* itself and the named subclasses, no others.

    Args:
        kind: The type.
        tag: Its name in messages, ``"app_label.what"``; once published it can never mean
            anything else. That of a subclass is this tag and its name, ``"app_label.what:Name"``.
        encode: From a value of *kind* to a value that the codec knows.
        decode: The way back, to a value of the type that was sent: ``decode(data)``, or
            ``decode(data, kind)`` where there are *subclasses*. The type is one of those that
            are declared here, whatever a message says.
        subclasses: Those that *encode* and *decode* know, too.

    Raises:
        RegistrationError: The tag or a type is taken, or a subclass is none.
        TypeError: The tag is no text.
    """
    if not isinstance(tag, str):
        raise TypeError(
            f"cannot register {_path_of(kind)}: expected a text as tag, got: "
            f"{type(tag).__name__}. Choose a tag of your own, 'app_label.what'."
        )
    tags = {kind: tag} | {each: f"{tag}:{each.__qualname__}" for each in subclasses}
    for each, its_tag in tags.items():
        if is_tag(its_tag) or is_known(each):
            taken = f"tag {its_tag!r}" if is_tag(its_tag) else f"type {each.__qualname__}"
            raise RegistrationError(
                f"cannot register {_path_of(each)} under {its_tag!r}: expected a type and a tag "
                f"that are free, got: a known {taken}. Choose a tag of your own, 'app_label.what'."
            )
        if not issubclass(each, kind):
            raise RegistrationError(
                f"cannot register {_path_of(each)} under {its_tag!r}: expected a subclass of "
                f"{kind.__qualname__}, got: another type. Register it by itself."
            )
    if len({*tags.values()}) < len(tags):
        raise RegistrationError(
            f"cannot register {_path_of(kind)} under {tag!r}: expected subclasses of different "
            "names, got: two of one name. Register one of them by itself."
        )
    for each, its_tag in tags.items():
        _registered.add(each)
        add_type(each, _encoder_of(its_tag, encode))
        add_tag(its_tag, _decoder_of(its_tag, decode, each, told=bool(subclasses)))


def _encoder_of(tag: str, encode: Callable[[Any], Any]) -> Encode:
    def encode_one(value: Any, encoder: Encoder) -> Any:
        return {"$": tag, "v": encoder.encode(encode(value))}

    return encode_one


def _decoder_of(tag: str, decode: Callable[..., Any], kind: type, *, told: bool) -> Decode:
    def decode_one(data: Any) -> Any:
        content = decode_value(data)
        try:
            value = decode(content, kind) if told else decode(content)
        except AWAY:
            raise
        except Exception as exc:
            raise DecodeError(
                f"cannot decode a value of type {tag!r}: expected the function that is registered "
                f"to decode it to return a {_path_of(kind)}, got: one that raises "
                f"{type(exc).__name__}. Let it read whatever its encode function has ever written."
            ) from exc
        if type(value) is not kind:
            raise DecodeError(
                f"cannot decode a value of type {tag!r}: expected the function that is registered "
                f"to decode it to return a {_path_of(kind)}, got: {_path_of(type(value))}. Let it "
                "return what was sent, of the very type."
            )
        return value

    return decode_one


def _path_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
