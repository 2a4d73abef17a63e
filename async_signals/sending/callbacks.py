"""The place of our callbacks among all that a transaction calls after its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["move_forward"]


def move_forward(connection: BaseDatabaseWrapper, start: int = 0) -> int | None:
    """
    Move the last callback of the transaction before the first that may prevent it.

    Where one raises that is not robust, Django forgets all that come after it; what was sent is
    committed all the same.

    Args:
        connection: In a transaction that has a callback.
        start: Those before it stay where they are.

    Returns:
        Its place; None: it was left where it is, as a ``TestCase`` looks for it there.
    """
    blocks: list[Any] = connection.atomic_blocks
    if start == 0 and any(block._from_testcase for block in blocks):
        return None
    callbacks: list[Any] = connection.run_on_commit  # The stubs know two of its three columns.
    end = len(callbacks) - 1
    place = next((n for n in range(start, end) if not callbacks[n][-1]), end)
    if place < end:
        callbacks.insert(place, callbacks.pop())
    return place
