"""
Leases that last as long as the receiver runs.

One thread for each database renews what a process runs: one that falls silent stops the renewal
of its own leases only. Should the process hang so that even this thread does not run, the lease
ends, and what the process writes afterwards is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ..conf import Settings, get_settings
from ..delivery import at_work
from ..forks import unforked
from .claims import renew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .claims import Run

__all__ = ["kept"]

logger = logging.getLogger("async_signals")


@contextlib.contextmanager
def kept(run: Run) -> Iterator[None]:
    """Renew the lease of *run* inside the ``with`` block, three times within each lease."""
    _running[id(run)] = run
    _ensure_thread(run.using)
    try:
        yield
    finally:
        del _running[id(run)]


_running: dict[int, Run] = {}
_lock = threading.Lock()
#: By alias, each with its process: a fork has none.
_threads: dict[str, tuple[int, threading.Thread]] = {}


def _ensure_thread(using: str) -> None:
    process, thread = _threads.get(using, (0, None))
    if thread is not None and process == os.getpid() and thread.is_alive():
        return
    with _lock:
        thread = threading.Thread(
            target=_renew_all, args=(using,), name=f"async_signals-leases-{using}", daemon=True
        )
        _threads[using] = os.getpid(), thread
        thread.start()


def _renew_all(using: str) -> None:
    at_work.set(True)
    pause = threading.Event()
    interval = Settings().lease / 3
    while True:
        with contextlib.suppress(ImproperlyConfigured):  # In a test of it; a site has checks.
            interval = get_settings().lease / 3
        pause.wait(interval)
        with unforked():
            for run in list(_running.values()):  # A copy: other threads begin and end.
                if run.using == using:
                    _renew(run)
            connections.close_all()  # This thread's own.


def _renew(run: Run) -> None:
    try:
        if not renew(run) and id(run) in _running:
            logger.warning(
                "Lost the lease of delivery %s of %s: its result will not count. It is given to "
                "another worker; raise ASYNC_SIGNALS['LEASE'].",
                run.envelope.id,
                run.envelope.receiver,
            )
    except Exception:  # noqa: BLE001  (the database may be back at the next turn)
        logger.warning("Cannot renew the lease of delivery %s.", run.envelope.id)
