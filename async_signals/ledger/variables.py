"""The local variables of a frame, and which of them Django's ``sensitive_variables`` names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from django.views.decorators import debug

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["declared"]

#: The function that Django puts around a decorated one; its frame is where the names stand.
_WRAPPER = "sensitive_variables_wrapper"
_ALL = "__ALL__"

#: Callers of a frame that are asked.
_MAX_CALLERS = 500


def declared(frame: FrameType) -> tuple[dict[str, Any], list[Any]]:
    """Return the variables of *frame* by name, and the values of those declared sensitive."""
    variables = dict(frame.f_locals)
    if frame.f_code.co_name == _WRAPPER:
        names = _names_in(frame)
        return {}, _passed(variables, names)
    names = _names_for(frame)
    if names == _ALL:
        return variables, list(variables.values())
    return variables, [variables[name] for name in names if name in variables]


def _names_for(frame: FrameType) -> Any:
    """Return the names declared for the function of *frame*, or for the nearest caller."""
    code = frame.f_code
    if code.co_flags & inspect.CO_COROUTINE:
        # A coroutine has no caller to ask: Django keeps its names under its place.
        key = hash(f"{code.co_filename}:{code.co_firstlineno}")
        registered: dict[int, Any] = getattr(
            debug, "coroutine_functions_to_sensitive_variables", {}
        )
        if key in registered:
            return registered[key]
    caller: FrameType | None = frame
    for _ in range(_MAX_CALLERS):
        if caller is None:
            break
        if caller.f_code.co_name == _WRAPPER:
            return _names_in(caller)
        caller = caller.f_back
    return ()


def _names_in(frame: FrameType) -> Any:
    return getattr(frame.f_locals.get(_WRAPPER), "sensitive_variables", ())


def _passed(variables: dict[str, Any], names: Any) -> list[Any]:
    """Return the arguments as they were passed: the function may have changed its variables."""
    args, kwargs = variables.get("func_args", ()), variables.get("func_kwargs", {})
    if names == _ALL:
        return [args, kwargs]
    function = inspect.unwrap(variables.get(_WRAPPER, lambda: None))
    code = getattr(function, "__code__", None)
    by_name = {**dict(zip(code.co_varnames if code else (), args, strict=False)), **kwargs}
    return [by_name[name] for name in names if name in by_name]
