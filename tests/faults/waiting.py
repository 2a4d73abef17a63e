"""Wait for what another process does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["wait_until"]


#: Seconds for what a few dozen events take, or ten thousand.
USUALLY = scaled(30.0, 900.0)


def wait_until(look: Callable[[], object], *, timeout: float = USUALLY, what: str = "it") -> object:
    """Return what *look* finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout} s"
        time.sleep(0.02)
    return found
