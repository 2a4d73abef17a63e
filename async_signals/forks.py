"""
Threads of ours in processes that fork, as a worker does for each process of its pool.

A forked child has one thread only. A lock that another one holds at that moment, such as that of
a stream it logs to or of a module it imports, is held in the child for ever, and who asks for it
there waits without end. So a fork waits for our threads to be idle, and they for its end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["unforked"]

#: Seconds that a fork waits at most: our threads may have to wait for servers for much longer, and
#: seldom hold anything while they do.
PATIENCE = 1.0


class _Gate:
    """What threads and forks of one process know of each other."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.working = 0  #: Threads in ``unforked()``.
        self.forking = 0  #: Threads that want to fork.


_gate = _Gate()


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """Let no fork happen inside the ``with`` block, which a thread in the background enters."""
    gate = _gate
    with gate.changed:
        gate.changed.wait_for(lambda: not gate.forking, PATIENCE)
        gate.working += 1
    try:
        yield
    finally:
        with gate.changed:
            gate.working -= 1
            gate.changed.notify_all()


def _before() -> None:
    _gate.changed.acquire()
    _gate.forking += 1
    _gate.changed.wait_for(lambda: not _gate.working, PATIENCE)


def _after_in_parent() -> None:
    _gate.forking -= 1
    _gate.changed.notify_all()
    _gate.changed.release()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603
    _gate = _Gate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
