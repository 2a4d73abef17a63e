"""Classes and functions, by the path under which the installed apps have imported them."""

from __future__ import annotations

import enum
import sys
import types
from typing import Any

from .values import Encoder, Unsendable, add

CURE = "Define it at the top level of a module, or leave it out with exclude=[{argument!r}]."


def path_of(value: Any) -> str:
    """
    Return ``"module:qualname"`` of a class or function; raises Unsendable.

    Only what is found again under its path can travel.
    """
    if value is types.NoneType:  # The sender of user_logged_out where nobody was logged in.
        return "types:NoneType"  # It says that it lives in builtins, where it is not.
    path = f"{value.__module__}:{value.__qualname__}"
    try:
        found = find(path)
    except LookupError:
        found = None
    if found is not value:
        raise Unsendable(value, f"expected what can be imported as {path}", CURE)
    return path


def find(path: str) -> Any:
    """
    Return the class or function at *path*, without importing or calling anything.

    Raises:
        LookupError: Its module is not loaded, or has no such class or function.
    """
    module, _, qualname = path.partition(":")
    found: Any = sys.modules.get(module)
    for attribute in qualname.split("."):
        # Through __dict__: a property or a module's __getattr__ would be a call.
        found = getattr(found, "__dict__", {}).get(attribute)
    if not isinstance(found, (type, types.FunctionType, types.BuiltinFunctionType)):
        raise LookupError(path)  # noqa: TRY004  (a wrong path, not a wrong argument)
    return found


def _encode(value: Any, encoder: Encoder) -> str:
    return path_of(value)


def _encode_member(value: enum.Enum, encoder: Encoder) -> list[Any]:
    if value.name is None or value.name not in type(value).__members__:
        raise Unsendable(value, "expected a named member of an enum")
    return [path_of(type(value)), value.name]


def _decode_member(data: Any) -> enum.Enum:
    path, name = data
    kind: type[enum.Enum] = find(path)
    if not issubclass(kind, enum.Enum):
        raise TypeError(path)
    return kind[name]


add(enum.Enum, "enum", _encode_member, _decode_member, family=True)
add(types.FunctionType, "importable", _encode, find)
add(types.BuiltinFunctionType, "importable", _encode, find)
