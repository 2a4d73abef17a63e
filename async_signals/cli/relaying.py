"""The verb that publishes what is due, apart from the workers."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from ..relay import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .terminal import Terminal

__all__ = ["relay"]


def relay(terminal: Terminal, options: dict[str, Any]) -> int:
    """Run a relay until it is asked to end, or once."""
    with _stop_on_signals() as stop:
        if not options["once"]:
            terminal.line("The relay runs; Ctrl-C ends it.")
        done = run(stop, once=options["once"])
    terminal.document({"published": done.published, "refused": done.refused})
    terminal.line(f"The relay has published {done.published} deliveries.")
    if done.refused:
        terminal.line(f"The broker did not take {done.refused}: they stay in the ledger.", "ERROR")
    terminal.next("stats" if done.is_well else "doctor")
    return 0 if done.is_well or not options["once"] else 1


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that is set where the process is asked to end."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Elsewhere Python lets nobody handle signals.
        return
    former = {
        number: signal.signal(number, lambda *args: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
