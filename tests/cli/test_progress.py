"""Whoever waits before a screen sees how far it is; a log gets nothing of it."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.color import no_style

from async_signals.cli.progress_bar import progress_bar
from async_signals.cli.terminal import Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(err: io.StringIO) -> Terminal:
    return Terminal(
        out=OutputWrapper(io.StringIO()),
        err=OutputWrapper(err),
        style=no_style(),
        has_color=False,
    )


@pytest.mark.parametrize("has_rich", [True, False])
def test_on_a_screen(monkeypatch, has_rich) -> None:
    """A bar of rich where it is installed; else a dot for each batch, and the number."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.progress", None)

    with progress_bar(terminal(screen), "retry") as progress:
        for done in (500, 1000, 1200):
            progress(done, 1200)

    assert screen.getvalue() == "... 1200\n" or has_rich
    assert screen.getvalue()


def test_elsewhere() -> None:
    """There is nothing to call, and nothing is written."""
    log = io.StringIO()

    with progress_bar(terminal(log), "retry") as progress:
        assert progress is None

    assert log.getvalue() == ""
