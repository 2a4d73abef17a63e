"""What a person sees: plain aligned text, or rich where it is installed and there is a screen."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.core.management.base import OutputWrapper
    from django.core.management.color import Style

__all__ = ["Cell", "Terminal", "printable"]

#: What could move the cursor or colour the screen of whoever reads an error's message; and what no
#: terminal takes: bytes of arguments that are no text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

#: Colours of rich, by the roles of Django's style.
_RICH = {"SUCCESS": "green", "WARNING": "yellow", "ERROR": "red", "MIGRATE_HEADING": "bold cyan"}


#: Verbs that are about all databases.
WITHOUT_DATABASE = frozenset({"doctor", "pause", "resume", "relay"})


def printable(text: object) -> str:
    """Return *text* without what a terminal would obey."""
    return _CONTROL.sub("?", str(text).replace("\r\n", "\n"))


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """A text in the colour of a role."""

    text: str
    role: str = ""  #: A role of Django's style: "SUCCESS", "WARNING", "ERROR"; empty: none.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where a command writes and asks; data goes to *out*, all else to *err*."""

    out: OutputWrapper
    err: OutputWrapper
    style: Style
    has_color: bool
    database: str = ""  #: The one that was named; empty: none was.
    is_json: bool = False  #: Only the one document goes to *out*.

    def line(self, text: object = "", role: str = "") -> None:
        """Write one line for people; nothing where a document is asked for."""
        if not self.is_json:
            self.out.write(self._colored(printable(text), role))

    def next(self, *commands: str) -> None:
        """End the screen with what may be typed next."""
        for index, command in enumerate(commands):
            if self.database and command.partition(" ")[0] not in WITHOUT_DATABASE:
                command += f" --database {self.database}"  # noqa: PLW2901
            self.line(f"{'Next:' if index == 0 else '     '} manage.py async_signals {command}")

    def document(self, data: Any) -> None:
        """Write the one document of ``--json``."""
        if self.is_json:
            self.out.write(json.dumps(data, indent=2))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell | object]]) -> None:
        """Write rows under their headers."""
        if self.is_json:
            return
        cells = [
            [cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows
        ]
        if not self._rich_table(headers, cells):
            self._plain_table(headers, cells)

    def ask(self, question: str) -> bool | None:
        """Return whether a person says yes, which Ctrl-C is not; None: there is nobody to ask."""
        if not sys.stdin.isatty():
            return None
        self.err.write(f"{question} [y/N] ", ending="")
        self.err.flush()
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            self.err.write("")
            return False

    def _plain_table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        titles = [Cell(header, "MIGRATE_HEADING") for header in headers]
        lines = [[Cell(_in_line(cell.text), cell.role) for cell in row] for row in (titles, *rows)]
        widths = [max(len(cell.text) for cell in column) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                # Coloured after it is padded: a colour has no width, but it has a length.
                self._colored(
                    cell.text.ljust(width) if index + 1 < len(line) else cell.text, cell.role
                )
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            self.out.write("  ".join(padded))

    def _rich_table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bool:
        """Write with rich, and return whether it could; to a pipe goes plain text, uncut."""
        if not self.out.isatty():
            return False
        try:
            from rich.console import Console  # noqa: PLC0415  (may be installed)
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415
        except ImportError:
            return False
        table = Table(box=None, header_style=_RICH["MIGRATE_HEADING"], pad_edge=False)
        for index, header in enumerate(headers):
            # The first column is what is copied.
            table.add_column(header, no_wrap=index == 0, overflow="fold")
        for row in rows:
            # Text, not markup: a message in brackets is no instruction.
            table.add_row(*(Text(_in_line(cell.text), _RICH.get(cell.role, "")) for cell in row))
        console = Console(color_system="auto" if self.has_color else None)
        with console.capture() as captured:
            console.print(table)
        self.out.write(captured.get(), ending="")
        return True

    def _colored(self, text: str, role: str) -> str:
        if not role or not self.has_color:
            return text
        color: Callable[[str], str] = getattr(self.style, role)
        return color(text)


def _in_line(text: str) -> str:
    return printable(text).replace("\n", " ").replace("\t", " ")
