"""
Tracebacks as text, as Python writes them: masked, bounded, and without any local variable.

Written here and not by Python's module, which calls the site's code without a net.
"""

from __future__ import annotations

import contextlib
import linecache
import textwrap
import traceback
from typing import TYPE_CHECKING

from .chains import MAX_EXCEPTIONS, members_of, tracebacks
from .messages import cut, message_of, path_of
from .places import own_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from .masking import Mask

__all__ = ["frames_of", "traceback_of"]

_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"

#: Characters of a message and of a line of source, and levels of groups in groups.
_MAX_MESSAGE, _MAX_LINE, _MAX_LEVELS = 2_000, 500, 5


def traceback_of(exc: BaseException, mask: Mask, *, of_database: bool) -> str:
    """Return the traceback of *exc*, after those of its causes; members of groups indented."""
    seen: set[int] = set()
    return "".join(_written(exc, mask, seen, of_database=of_database, level=0))


def frames_of(exc: BaseException, mask: Mask) -> str:
    """Return the entries of the traceback that are in the site's code, with their source."""
    return _entries(own_entries(exc), mask)


def _written(
    exc: BaseException, mask: Mask, seen: set[int], *, of_database: bool, level: int
) -> Iterator[str]:
    steps: list[tuple[BaseException, str]] = []
    each: BaseException | None = exc
    said = ""
    while each is not None and id(each) not in seen and len(seen) < MAX_EXCEPTIONS:
        seen.add(id(each))
        steps.append((each, said))
        each, said = _before(each)
    # What came first is written first; each step knows what leads from it to the next one.
    for error, leads_on in reversed(steps):
        if entries := tracebacks(error):
            yield "Traceback (most recent call last):\n" + _entries(entries, mask)
        message = cut(message_of(error, mask, of_database=of_database), _MAX_MESSAGE)
        yield f"{path_of(type(error))}{': ' if message else ''}{message}\n"
        yield from _notes(error, mask)
        if level < _MAX_LEVELS:
            members = members_of(error)
            for number, member in enumerate(members, 1):
                lines = _written(member, mask, seen, of_database=of_database, level=level + 1)
                yield f"  -- {number} of {len(members)} --\n"
                yield textwrap.indent("".join(lines), "  ")
        yield leads_on


def _before(exc: BaseException) -> tuple[BaseException | None, str]:
    """Return the error that was there before *exc*, and the words between; as Python does."""
    with contextlib.suppress(Exception):  # Each may be a property of the error's class.
        if isinstance(exc.__cause__, BaseException):
            return exc.__cause__, _CAUSED
        if not exc.__suppress_context__ and isinstance(exc.__context__, BaseException):
            return exc.__context__, _DURING
    return None, ""


def _notes(exc: BaseException, mask: Mask) -> Iterator[str]:
    notes = None
    with contextlib.suppress(Exception):
        notes = exc.__notes__
    for note in notes[:10] if type(notes) is list else ():
        if type(note) is str:
            yield cut(mask.text(note[:100_000]), _MAX_MESSAGE) + "\n"


def _entries(entries: Iterable[TracebackType], mask: Mask) -> str:
    """Return *entries* as text; those that repeat are counted."""
    summaries = [
        traceback.FrameSummary(
            mask.source(entry.tb_frame.f_code.co_filename),
            entry.tb_lineno,
            mask.source(entry.tb_frame.f_code.co_name),
            lookup_line=False,
            line=_line_at(entry, mask),
        )
        for entry in entries
    ]
    return "".join(traceback.StackSummary.from_list(summaries).format())


def _line_at(entry: TracebackType, mask: Mask) -> str:
    frame = entry.tb_frame
    with contextlib.suppress(Exception):  # Where the source comes from is the loader's affair.
        line = linecache.getline(frame.f_code.co_filename, entry.tb_lineno, frame.f_globals)
        return cut(mask.source(line.strip()), _MAX_LINE)
    return ""
