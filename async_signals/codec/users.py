"""Nobody: the user of a request that is not logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .importables import find
from .table import add_family, add_tag, decode_attributes

if TYPE_CHECKING:
    from .table import Encoder

# By its path: its module cannot be imported before the apps are, nor where auth is not installed.
_MODULE, _NAME = "django.contrib.auth.models", "AnonymousUser"


def _is_anonymous(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) == (_MODULE, _NAME)


def _encode_anonymous(value: object, encoder: Encoder) -> Any:
    held = vars(value)  # Nothing by itself: what a middleware has put there.
    return {"$": "anonymous", "v": encoder.encode_attributes(held) if held else None}


def _decode_anonymous(data: Any) -> Any:
    user = find(f"{_MODULE}:{_NAME}")()
    if data is not None:
        vars(user).update(decode_attributes(data))
    return user


add_family(_is_anonymous, _encode_anonymous)
add_tag("anonymous", _decode_anonymous)
