"""What every worker gets by itself: the relay, silence about our data, limits for each delivery."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery import signals as celery_signals

from . import relay
from .conf import get_settings
from .publisher import HEADER, LIMITED, WITHOUT_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.worker import WorkController

__all__ = ["RelayStep", "SilenceStep", "add_steps"]

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


class SilenceStep(bootsteps.Step):
    """
    Keeps the bodies of our messages out of the worker's log.

    Where a consumer cannot run a message, because its task is unknown or it cannot be read, it
    logs the whole body. Of ours it logs all else: task, id, headers, where it came from.
    """

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        # Before the consumer starts, since it takes its handlers then.
        for name in ("on_unknown_message", "on_unknown_task", "on_invalid_task"):
            setattr(parent, name, _without_body(getattr(parent, name)))
        on_decode_error = parent.on_decode_error
        parent.on_decode_error = lambda message, exc: on_decode_error(_bodiless(message), exc)
        super().__init__(parent, **kwargs)


def _without_body(handler: Callable[..., None]) -> Callable[..., None]:
    def handle(body: object, message: Any, *error: Exception) -> None:
        shown = _bodiless(message)
        # Celery decodes what comes by the first version of its protocol.
        handler(body if shown is message or body is None else shown.body, shown, *error)

    return handle


def _bodiless(message: Any) -> Any:
    """Return *message* itself, or, of ours, what has all that it has but the body."""
    headers = message.headers
    return _Bodiless(message) if isinstance(headers, dict) and HEADER in headers else message


class _Bodiless:
    """A message whose ``payload`` is still there for who asks, but whose body is not shown."""

    body = WITHOUT_DATA["argsrepr"]

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


def _note_limits(sender: Any, request: Any, **kwargs: object) -> None:
    """
    Write into a message that came whether a limit holds for it, for the process that will run it.

    Not all of them are known there, nor where it was sent: Celery's main process applies them.
    """
    if request.request_dict.get(HEADER) != "stored":  # Others are of one delivery.
        return
    task, worker = request.task, sender.controller
    limits = (
        *request.time_limits,
        *(task.time_limit, task.soft_time_limit),
        *(worker.time_limit, worker.soft_time_limit),
        sender.task_buckets[task.name],
    )
    if any(limits):
        request.request_dict[LIMITED] = True


def add_steps() -> None:
    """Give every worker that starts in this process its steps: no relay where ``RELAY`` is off."""
    celery_signals.celeryd_init.connect(_add, dispatch_uid="async_signals")
    celery_signals.task_received.connect(_note_limits, dispatch_uid="async_signals")


def _add(instance: WorkController, **kwargs: object) -> None:
    instance.app.steps["consumer"].add(SilenceStep)
    if get_settings().relay:
        instance.app.steps["worker"].add(RelayStep)
