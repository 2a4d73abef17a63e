"""The relay as a part of every Celery worker, without configuration."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery import signals as celery_signals

from . import relay
from .conf import get_settings

if TYPE_CHECKING:
    from celery.worker import WorkController

__all__ = ["RelayStep", "add_relay"]

#: Seconds that a stopping worker waits for the relay to finish its batch.
PATIENCE = 10.0


class RelayStep(bootsteps.StartStopStep):
    """A thread of the worker's main process, started after the pool's processes."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **kwargs: Any) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        super().__init__(parent, **kwargs)

    def start(self, parent: WorkController) -> None:
        """Start the relay."""
        self._thread = threading.Thread(
            target=relay.run, args=(self._stop,), name="async_signals-relay", daemon=True
        )
        self._thread.start()

    def stop(self, parent: WorkController) -> None:
        """Let the relay finish its batch."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    terminate = stop


def add_relay() -> None:
    """Give every worker that starts in this process its relay, unless ``RELAY`` is off."""
    celery_signals.celeryd_init.connect(_add, dispatch_uid="async_signals")


def _add(instance: WorkController, **kwargs: object) -> None:
    if get_settings().relay:
        instance.app.steps["worker"].add(RelayStep)
