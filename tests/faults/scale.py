"""How much is run: a short version with every change, all of it with ``nox -s faults``."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

__all__ = ["DURABLE", "IS_FULL", "PROMISING", "in_modes", "scaled"]

T = TypeVar("T")

#: The modes that promise something under the faults; plain is the control.
PROMISING = ("robust", "durable", "once")
DURABLE = ("durable", "once")

IS_FULL = os.environ.get("ASYNC_SIGNALS_FAULTS") == "full"


def scaled(short: T, full: T) -> T:
    """Return what this run is to use."""
    return full if IS_FULL else short


def in_modes(*short: str, of: tuple[str, ...] = PROMISING) -> pytest.MarkDecorator:
    """Run a test in the modes *short*, and in the full version in all *of* these."""
    return pytest.mark.parametrize("mode", scaled(short, of))
