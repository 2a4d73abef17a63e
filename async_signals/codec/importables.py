"""Classes, functions and enums, by the path under which the installed apps imported them."""

from __future__ import annotations

import enum
import sys
import types
from typing import TYPE_CHECKING, Any

from ..exceptions import DecodeError
from .table import Unsendable, add_family, add_tag, add_type, decode_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .table import Encoder

CURE = "Define it at the top level of a module, or leave it out with exclude=[{argument!r}]."

#: Combinations of flags in one class beyond which no message makes another.
_MAX_MEMBERS = 10_000

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


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
    if found is not value or value.__module__ == "__main__":  # The worker's is another one.
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
        found = _members_of(found).get(attribute)
    # Of its type, not with isinstance(): a lazy object would be made to say what it stands for.
    if not issubclass(type(found), (type, *_FUNCTIONS)):
        raise LookupError(path)  # noqa: TRY004  (a wrong path, not a wrong argument)
    return found


def imported(path: str) -> Any:
    """
    Return the class or function that a message names.

    Raises:
        DecodeError: This process has not imported it.
    """
    try:
        return find(path)
    except LookupError:
        raise DecodeError(
            f"cannot decode a value: expected {path!r} in a module that this process has imported, "
            "got: none. Import the module in AppConfig.ready(), and deploy workers before senders."
        ) from None


def _members_of(found: Any) -> Mapping[str, Any]:
    """Return the namespace of a module or class; a property or ``__getattr__`` would be a call."""
    kind = type(found)
    members: Mapping[str, Any] = {}
    if issubclass(kind, types.ModuleType):
        members = object.__getattribute__(found, "__dict__")
    elif issubclass(kind, type):
        members = type.__getattribute__(found, "__dict__")
    return members


def _encode_function(value: Any, encoder: Encoder) -> Any:
    return {"$": "importable", "v": path_of(value)}


def _encode_member(value: enum.Enum, encoder: Encoder) -> Any:
    kind, name = type(value), value._name_  # Past name and value, which a class may redefine.
    if kind.__members__.get(name) is value:
        return {"$": "enum", "v": [path_of(kind), name]}
    if isinstance(value, enum.Flag):
        return {"$": "flag", "v": [path_of(kind), encoder.encode(value._value_)]}
    raise Unsendable(value, "expected a named member of an enum")


def _decode_member(data: Any) -> enum.Enum:
    path, name = data
    kind: type[enum.Enum] = imported(path)
    if not issubclass(kind, enum.Enum):
        raise TypeError(path)
    return kind.__members__[name]


def _decode_flag(data: Any) -> enum.Flag:
    path, value = data[0], decode_value(data[1])
    kind: type[enum.Flag] = imported(path)
    if not issubclass(kind, enum.Flag) or type(value) is not int:
        raise TypeError(path)
    # Not kind(value), which is a call of what the payload names.
    member = kind._value2member_map_.get(value)
    if member is None:
        # The class keeps each combination for ever, also of bits that it has no name for.
        if len(kind._value2member_map_) >= _MAX_MEMBERS:
            raise LookupError(path)
        member = enum.Flag.__dict__["_missing_"].__func__(kind, value)
    if type(member) is not kind or member._value_ != value:
        raise LookupError(path)
    return member


for _kind in _FUNCTIONS:
    add_type(_kind, _encode_function)
add_family(lambda kind: issubclass(kind, enum.Enum), _encode_member)
add_tag("importable", imported)
add_tag("enum", _decode_member)
add_tag("flag", _decode_flag)
