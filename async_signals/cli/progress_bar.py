"""How far a long operation is: a bar for whoever waits before a screen, for nobody else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .terminal import Terminal

    Progress = Callable[[int, int], None]

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(terminal: Terminal, what: str) -> Iterator[Progress | None]:
    """Yield what is called with the number done and of all; None: nobody looks."""
    if not terminal.err.isatty():
        yield None
        return
    try:
        from rich.console import Console  # noqa: PLC0415  (may be installed)
        from rich.progress import Progress as Bar  # noqa: PLC0415
    except ImportError:
        with _dots(terminal) as progress:
            yield progress
        return
    console = Console(stderr=True, color_system="auto" if terminal.has_color else None)
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _dots(terminal: Terminal) -> Iterator[Progress]:
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        shown += 1
        terminal.err.write("." if done < total else f". {done}", ending="")
        terminal.err.flush()

    yield progress
    if shown:
        terminal.err.write("")
