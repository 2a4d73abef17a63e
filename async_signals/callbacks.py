"""Our own ``on_commit`` callbacks, and their places among all that a transaction calls."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import connections, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Place", "callback_at", "last_of_ours", "move_forward", "on_commit_first"]

#: A place in Django's list, and the callback there: weakly, as what a rollback drops must be gone.
Place: TypeAlias = tuple[int, "weakref.ref[Callable[[], object]]"]

#: By connection, that of the last callback that was moved.
_last: weakref.WeakKeyDictionary[BaseDatabaseWrapper, Place] = weakref.WeakKeyDictionary()


def on_commit_first(callback: Callable[[], object], using: str) -> None:
    """Call *callback* after the commit on *using*, whatever callbacks of the site's raise."""
    transaction.on_commit(callback, using=using, robust=True)
    move_forward(connections[using], callback)


def move_forward(connection: BaseDatabaseWrapper, callback: Callable[[], object]) -> Place | None:
    """
    Move *callback*, which was just registered, before the first that may prevent it.

    Where one raises that is not robust, Django forgets all that come after it; what was sent is
    committed all the same. Those that were moved before stay in front of it.

    Returns:
        Its place; None: it was left where it is, as a ``TestCase`` looks for it there, or it is
        none that waits: there is no transaction, or somebody has put something in its place.
    """
    callbacks: list[Any] = connection.run_on_commit  # The stubs know two of its three columns.
    if not callbacks or callbacks[-1][1] is not callback:
        return None
    start, end = 0, len(callbacks) - 1
    known = _last.get(connection)
    if known is not None and callback_at(known, connection) is not None:
        start = known[0] + 1  # All before it were looked at when it came.
    else:
        blocks: list[Any] = connection.atomic_blocks
        if any(block._from_testcase for block in blocks):
            return None
    number = next((n for n in range(start, end) if not callbacks[n][-1]), end)
    callbacks.insert(number, callbacks.pop())
    place = _last[connection] = number, weakref.ref(callback)
    return place


def last_of_ours(connection: BaseDatabaseWrapper) -> Callable[[], object] | None:
    """Return the last callback that was moved; None: there is none, or a rollback took it."""
    known = _last.get(connection)
    return None if known is None else callback_at(known, connection)


def callback_at(place: Place, connection: BaseDatabaseWrapper) -> Callable[[], object] | None:
    """Return the callback that was given *place*; None: it is not there any more."""
    number, reference = place
    callback, callbacks = reference(), connection.run_on_commit
    if callback is None or number >= len(callbacks) or callbacks[number][1] is not callback:
        return None
    return callback
