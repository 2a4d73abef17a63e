"""The message of an error, without the data of other people's rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .chains import chain
from .masking import MASKED

if TYPE_CHECKING:
    from .masking import Mask

__all__ = ["cut", "cut_middle", "is_of_database", "message_of", "path_of"]

#: Characters of a message that are read; what is kept of them is much less.
_MAX_READ = 100_000

#: Where PostgreSQL goes on about rows and queries.
_ABOUT_DATA = re.compile(r"(?m)^(?:DETAIL|CONTEXT|QUERY|WHERE|LINE \d+):.*(?:\n(?!HINT:).*)*")
#: Data that databases quote elsewhere: what stands before it, and what may stand behind it, each
#: with the mark, of one character, that goes with the data. Found by their first and last place: a
#: value may hold any of them, and to try each pair takes quadratic time.
_QUOTED_DATA = (
    ("Key (", (") already", ") is ", ") conflicts")),
    ("Duplicate entry '", ("' for key",)),
    ("value: '", ("' for column",)),
    (': "', ('"\n',)),
)


def path_of(kind: type) -> str:
    """Return the import path of a class, at most 255 characters."""
    module: object = kind.__module__  # A class may set it to anything.
    is_named = type(module) is str and module != "builtins"
    return cut(f"{module}.{kind.__qualname__}" if is_named else kind.__qualname__, 255)


def is_of_database(exc: BaseException) -> bool:
    """Whether *exc*, or an error that belongs to it, comes from a database."""
    return any(
        # The name that Python's database interface gives the base, in drivers and in Django.
        base.__name__ == "DatabaseError"
        for error in chain(exc)
        for base in type(error).__mro__
    )


def message_of(exc: BaseException, mask: Mask, *, of_database: bool) -> str:
    """
    Return what *exc* says, masked, at most 100,000 characters; never raises.

    Args:
        exc: Its ``__str__`` may be the site's code, and raise.
        mask: What is secret.
        of_database: It may quote a database: leave out the data of rows.
    """
    try:
        said = str(exc)
        text = str.__str__(said)
    except Exception:  # noqa: BLE001  (a message that cannot be had must not hide the failure)
        return f"<unprintable {path_of(type(exc))}>"
    is_cut = len(text) > _MAX_READ
    text = text[:_MAX_READ]
    if of_database:
        text = _ABOUT_DATA.sub("", text).rstrip() + "\n"
        text = _without(text, _quoted(text, is_cut=is_cut))
    masked = mask.text(text.strip())
    # The beginning of a secret may stand where the text was cut.
    return masked[: -mask.reach] if is_cut and mask.reach else masked


def _quoted(text: str, *, is_cut: bool) -> list[tuple[int, int]]:
    """Return where data begins and ends, for each of ``_QUOTED_DATA``; they may overlap."""
    found = []
    for before, behind in _QUOTED_DATA:
        begin = text.find(before) + len(before)
        if begin < len(before):
            continue
        # What ends the data may have stood where the text was cut.
        end = len(text) if is_cut else max(text.rfind(each, begin) for each in behind)
        if end >= 0:
            found.append((begin - 1, end + 1))
    return sorted(found)


def _without(text: str, regions: list[tuple[int, int]]) -> str:
    pieces, at = [], 0
    for begin, end in regions:
        if begin >= at:
            pieces += [text[at:begin], MASKED]
        at = max(at, end)
    return "".join([*pieces, text[at:]])


def cut(text: str, size: int) -> str:
    """Return at most *size* characters of *text*, with an ellipsis where there were more."""
    return text if len(text) <= size else f"{text[: size - 1]}…"


def cut_middle(text: str, size: int) -> str:
    """Return at most *size* characters, the first third and the end, and how many are left out."""
    if len(text) <= size:
        return text
    kept = size - 60  # For the words between.
    first = kept // 3
    said = f"\n... {len(text) - kept} characters are left out here ...\n"
    return f"{text[:first]}{said}{text[first - kept :]}"
