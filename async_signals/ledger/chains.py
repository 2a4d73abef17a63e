"""An exception and those that belong to it: causes, contexts, members of groups."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["chain", "members_of", "tracebacks"]

#: Exceptions of one chain, and entries at each end of one traceback, that are looked at.
MAX_EXCEPTIONS, MAX_ENTRIES = 50, 200


def chain(exc: BaseException) -> list[BaseException]:
    """Return *exc* and all that belong to it, also suppressed ones, the nearest first."""
    found: dict[int, BaseException] = {}
    waiting = deque([exc])
    while waiting and len(found) < MAX_EXCEPTIONS:
        each = waiting.popleft()
        if id(each) not in found:
            found[id(each)] = each
            # Each of these may be a property of the error's class, which raises.
            with contextlib.suppress(Exception):
                waiting.extend(x for x in (each.__cause__, each.__context__) if x is not None)
                waiting.extend(members_of(each))
    return list(found.values())


def members_of(exc: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group, as many as are looked at; else none."""
    if not isinstance(exc, BaseExceptionGroup):
        return ()
    members = BaseExceptionGroup.exceptions.__get__(exc)
    return tuple(members[:MAX_EXCEPTIONS])


def tracebacks(exc: BaseException) -> list[TracebackType]:
    """Return the entries of the traceback of *exc*, innermost last, the middle left out."""
    entry = None
    with contextlib.suppress(Exception):  # As above.
        entry = exc.__traceback__
    entries = _entries(entry)
    first = list(itertools.islice(entries, MAX_ENTRIES))
    return [*first, *deque(entries, maxlen=MAX_ENTRIES)]


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next
