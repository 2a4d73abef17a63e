"""Where in the code an error passed, and whose code it is."""

from __future__ import annotations

import functools
import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from .chains import chain, tracebacks

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["own_entries", "place_of", "places_of"]

#: Packages that are not the site's code, also where they are installed from a checkout.
_FOREIGN = frozenset({"asgiref", "async_signals", "billiard", "celery", "django", "kombu", "vine"})
_STANDARD = tuple(
    os.path.join(os.path.realpath(sysconfig.get_path(name)), "")  # noqa: PTH118
    for name in ("stdlib", "platstdlib")
)
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def own_entries(exc: BaseException) -> list[TracebackType]:
    """
    Return the entries of the traceback that are in the site's code, innermost last.

    Of *exc*, or where it has none, of the nearest error that belongs to it and has some.
    """
    for error in chain(exc):
        entries = [entry for entry in tracebacks(error) if _is_own(entry.tb_frame)]
        if entries:
            return entries
    return []


def places_of(exc: BaseException) -> list[str]:
    """Return the functions of the site that *exc* passed, each once; none: where it was raised."""
    entries = [entry for entry in tracebacks(exc) if _is_own(entry.tb_frame)]
    if not entries:
        entries = tracebacks(exc)[-1:]
    # Each once: how often a function calls itself differs from failure to failure.
    return list(dict.fromkeys(place_of(entry.tb_frame) for entry in entries))


def place_of(frame: FrameType) -> str:
    """Return module and function: the same on every host, whatever line it is on."""
    return f"{_module_of(frame)}:{frame.f_code.co_qualname}"


def _module_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""


def _is_own(frame: FrameType) -> bool:
    return _module_of(frame).partition(".")[0] not in _FOREIGN and _is_own_file(
        frame.f_code.co_filename
    )


@functools.lru_cache(maxsize=4096)
def _is_own_file(path: str) -> bool:
    if path.startswith("<"):  # Code that was not read from a file.
        return False
    real = os.path.realpath(path)
    return not real.startswith(_STANDARD) and _INSTALLED.isdisjoint(Path(real).parts)
