"""
Where a signal is found.

A signal does not know its place, so it is looked up in the loaded modules, once, when it is
first sent.
"""

from __future__ import annotations

import sys
import weakref

from django.dispatch import Signal

__all__ = ["paths_of", "signal_at"]

_known: weakref.WeakKeyDictionary[Signal, list[str]] = weakref.WeakKeyDictionary()


def paths_of(signal: Signal) -> list[str]:
    """Return the import paths under which *signal* stands in the loaded modules, best first."""
    paths = _known.get(signal)
    if paths is None:
        paths = [
            f"{module_name}.{attribute}"
            for module_name, module in list(sys.modules.items())
            for attribute, value in list(getattr(module, "__dict__", {}).items())
            if value is signal and module_name != "__main__"  # Another module in each process.
        ]
        # Where signals are defined comes before where they are used; the rest only has to be
        # the same in every process.
        paths.sort(key=lambda path: (not _is_in_signals_module(path), len(path), path))
        _known[signal] = paths
    return paths


def signal_at(path: str) -> Signal | None:
    """Return the signal of that import path, without importing; None: there is none."""
    module, _, attribute = path.rpartition(".")
    found = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
    return found if isinstance(found, Signal) else None


def _is_in_signals_module(path: str) -> bool:
    return path.rpartition(".")[0].rpartition(".")[2] == "signals"
