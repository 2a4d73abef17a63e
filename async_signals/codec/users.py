"""Nobody: the user of a request that is not logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .importables import find
from .table import add_family, add_tag

if TYPE_CHECKING:
    from .table import Encoder

# By its path: its module cannot be imported before the apps are, nor where auth is not installed.
_MODULE, _NAME = "django.contrib.auth.models", "AnonymousUser"


def _is_anonymous(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) == (_MODULE, _NAME)


def _encode_anonymous(value: object, encoder: Encoder) -> Any:
    return {"$": "anonymous", "v": None}


add_family(_is_anonymous, _encode_anonymous)
add_tag("anonymous", lambda data: find(f"{_MODULE}:{_NAME}")())
