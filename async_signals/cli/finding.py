"""What ``doctor`` has found."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ERROR", "OK", "UNAVAILABLE", "WARNING", "Finding", "within"]

#: Levels, from good to bad. The last: no broker, or no worker, answers.
OK, WARNING, ERROR, UNAVAILABLE = "ok", "warning", "error", "unavailable"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str  #: Stable, for scripts: "settings", "ledger", "broker" ...
    level: str
    text: str
    cure: str = ""


def within(seconds: float, run: Callable[[], T]) -> T:
    """
    Return what *run* returns.

    Raises:
        TimeoutError: It takes longer; it is left behind in its thread.
        Exception: Whatever *run* raised.
    """
    returned: list[T] = []
    raised: list[Exception] = []

    def work() -> None:
        try:
            returned.append(run())
        except Exception as exc:  # noqa: BLE001  (raised again where it was called)
            raised.append(exc)

    thread = threading.Thread(target=work, name="async_signals-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return returned[0]
