"""The worker's door: one Celery task for each receiver, under the receiver's own name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import celery
from celery import signals as celery_signals

from . import registry
from .exceptions import EnvelopeError, MissingInstanceError
from .executor import execute
from .publisher import HEADER, WITHOUT_DATA

if TYPE_CHECKING:
    from .registry import Receiver

__all__ = ["create_tasks"]

logger = logging.getLogger("async_signals")

#: Seconds before a missing row is looked for again, doubling with each attempt.
RETRY_DELAY = 1
#: Attempts before a missing row is an error.
RETRY_ATTEMPTS = 8


def create_tasks() -> None:
    """Create a task for every receiver that is registered, now or later."""
    registry.subscribe(_create_task)
    celery_signals.task_unknown.connect(_explain_unknown, dispatch_uid="async_signals")


#: Names that have their task. A function that takes the name of a dead one takes its task.
_names: set[str] = set()


def _create_task(receiver: Receiver) -> None:
    for name in {receiver.name, *receiver.aliases} - _names:
        _names.add(name)

        def run(task: celery.Task[Any, Any], *args: Any, **kwargs: Any) -> None:
            _run(task, args)

        run.__doc__ = receiver.doc
        celery.shared_task(  # type: ignore[call-overload]  # A function, and options for it.
            run,
            name=name,
            bind=True,
            typing=False,
            ignore_result=True,
            serializer="json",
            receiver_name=name,
            **({} if (limit := receiver.options.rate_limit) is None else {"rate_limit": limit}),
        )


def _run(task: celery.Task[Any, Any], args: tuple[Any, ...]) -> None:
    if len(args) != 1:
        raise EnvelopeError(
            f"cannot run {task.name}: expected one argument, a signed text, got: {len(args)}. "
            "Only async_signals publishes to the task of a receiver; call the function itself, "
            "or send its signal."
        )
    retries = task.request.retries
    try:
        execute(args[0], name=task.name, attempt=retries + 1)
    except MissingInstanceError as exc:
        if registry.get(task.name).options.missing != "retry" or retries + 1 >= RETRY_ATTEMPTS:
            raise
        raise task.retry(
            exc=exc,
            countdown=RETRY_DELAY * 2**retries,
            max_retries=RETRY_ATTEMPTS,
            **WITHOUT_DATA,
        ) from None


def _explain_unknown(name: str, id: str, message: Any, **kwargs: Any) -> None:  # noqa: A002
    """Say the cure beside Celery's own report of a task that it does not know."""
    if HEADER in (message.headers or {}):
        logger.error(
            "Lost delivery %s: cannot run %s, expected a receiver that this worker has imported, "
            "got: none of that name. Import its module in AppConfig.ready(), deploy workers "
            "before senders, and name what was renamed with "
            "@async_receiver(..., aliases=[old name]).",
            id,
            name,
        )
