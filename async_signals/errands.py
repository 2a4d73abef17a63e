"""
Calls of what may never return, for threads that have something else to do.

Nothing ends a thread from outside: whoever has waited long enough goes on, and leaves the errand
behind. So it is a daemon, which no process waits for at its end, as it would for the threads of
``concurrent.futures`` and of ``asgiref``.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

from django.db import connections
from django.utils import timezone, translation

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

__all__ = ["Errand"]


class Errand(threading.Thread):
    """One call in a thread of its own: in the context, language and time zone of who made it."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        here = translation.get_language(), timezone.get_current_timezone()
        super().__init__(
            target=contextvars.copy_context().run,
            args=(_call, *here, function, *args),
            name="async_signals-errand",
            daemon=True,
        )
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, and close the connections to databases that it has opened."""
        try:
            super().run()
        except BaseException as exc:  # noqa: BLE001  (whoever waits is to have it)
            self._error = exc
        finally:
            connections.close_all()

    def ends_within(self, seconds: float) -> bool:
        """
        Whether the call, which begins now, has returned by then.

        Raises:
            BaseException: What it has raised.
        """
        self.start()
        self.join(seconds)
        has_ended = not self.is_alive()
        if self._error is not None:
            raise self._error
        return has_ended


def _call(
    language: str | None, zone: dt.tzinfo, function: Callable[..., object], *args: object
) -> None:
    # Which Django keeps for each thread, and asgiref shows to no other one of the same context.
    with translation.override(language), timezone.override(zone):
        function(*args)
