"""The worker's door: one Celery task for each receiver, under the receiver's own name."""

from __future__ import annotations

import datetime as dt
import logging
import os
import time
from typing import TYPE_CHECKING, Any

import celery
from celery import signals as celery_signals
from celery.exceptions import Reject, Retry
from django.db import DatabaseError, InterfaceError

from . import registry, relay, rescue, robust
from .delivery import at_work
from .exceptions import (
    DecodeError,
    EnvelopeError,
    FailedError,
    FutureEnvelopeError,
    MissingInstanceError,
    ReceiverNotFoundError,
)
from .executor import execute
from .publisher import HEADER, LIMITED, WITHOUT_DATA

if TYPE_CHECKING:
    from .registry import Receiver
    from .results import Result

__all__ = ["create_tasks"]

logger = logging.getLogger("async_signals")

#: Seconds before a missing row is looked for again, doubling with each attempt.
RETRY_DELAY = 1
#: Seconds before a message that the ledger has no time for goes back to the broker.
RELIEF = 1.0
#: Attempts before a missing row is an error.
RETRY_ATTEMPTS = 8


def create_tasks() -> None:
    """Create a task for every receiver that is registered, now or later."""
    registry.subscribe(_create_task)
    celery_signals.task_unknown.connect(_take_unknown, dispatch_uid="async_signals")


#: Names that have their task. A function that takes the name of a dead one takes its task.
_names: set[str] = set()


def _create_task(receiver: Receiver) -> None:
    options: dict[str, Any] = {}
    if receiver.options.rate_limit is not None:
        options["rate_limit"] = receiver.options.rate_limit
    if receiver.options.robust:
        # The message is let go when the ledger knows what became of it; whoever gets it twice
        # finds that it was claimed.
        options |= {"acks_late": True, "reject_on_worker_lost": True}
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
            throws=(FailedError,),
            **options,
        )


def _run(task: celery.Task[Any, Any], args: tuple[Any, ...]) -> None:
    if len(args) != 1:
        raise EnvelopeError(
            f"cannot run {task.name}: expected one argument, a signed text, got: {len(args)}. "
            "Only async_signals publishes to the task of a receiver; call the function itself, "
            "or send its signal."
        )
    token = at_work.set(True)
    try:
        _run_by_kind(task, args[0])
    finally:
        at_work.reset(token)


def _run_by_kind(task: celery.Task[Any, Any], wire: object) -> None:
    kind = task.request.get(HEADER)
    try:
        receiver = registry.get(task.name)
    except ReceiverNotFoundError:  # Its function has died since the task was made.
        _keep_unknown(kind, wire, name=task.name)
        raise
    is_robust = receiver.options.robust or kind == "stored"
    # Where tasks are eager, in tests, the sender is to see what its receivers raise.
    if is_robust and not task.request.is_eager:
        _run_robust(task, wire)
    else:
        _run_plain(task, wire)


def _run_plain(task: celery.Task[Any, Any], wire: object) -> None:
    retries = task.request.retries
    try:
        execute(wire, name=task.name, attempt=retries + 1)
    except (DecodeError, FutureEnvelopeError) as exc:
        # A worker that is older than the sender: what it cannot read, a newer one can.
        rescue.keep_unreadable(wire, exc, name=task.name, id=str(task.request.id), is_let_go=True)
        raise
    except MissingInstanceError as exc:
        if registry.get(task.name).options.missing != "retry" or retries + 1 >= RETRY_ATTEMPTS:
            raise
        raise task.retry(
            exc=exc,
            countdown=RETRY_DELAY * 2**retries,
            max_retries=RETRY_ATTEMPTS,
            **WITHOUT_DATA,
        ) from None


def _run_robust(task: celery.Task[Any, Any], wire: object) -> None:
    """Run, and tell Celery what became of it, for Flower, exporters and the log."""
    try:
        results = _results(task, wire)
    except (DatabaseError, InterfaceError) as exc:
        # Nothing of it is written down: the broker keeps the message until there is a ledger.
        logger.warning("Cannot reach the ledger for %s, its message stays: %s", task.name, exc)
        time.sleep(RELIEF)  # The broker brings it back at once, here or to the next process.
        raise Reject(type(exc).__name__, requeue=True) from None
    _follow(results)
    failed = [result for result in results if result.state == "failed"]
    if failed:
        raise FailedError("; ".join(f"{each.delivery}: {each.told}" for each in failed))
    retrying = [result for result in results if result.state == "retrying"]
    if retrying:
        # An announcement only: the relay publishes the next attempt.
        soonest = min(each.wait for each in retrying)
        raise Retry(
            "; ".join(f"{each.delivery}: {each.told}" for each in retrying),
            when=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=soonest),
        )


def _follow(results: list[Result]) -> None:
    """Publish those that may run after these now; they are due, should that fail."""
    for result in results:
        try:
            if result.next_of is not None:
                relay.follow(*result.next_of)
            if result.unpacked is not None:
                relay.Relay().publish(*result.unpacked)
        except Exception as exc:  # noqa: BLE001  (what was run must not be run again for it)
            logger.warning(
                "Left what follows on delivery %s to the relay: %s", result.delivery, exc
            )


def _results(task: celery.Task[Any, Any], wire: object) -> list[Result]:
    try:
        return robust.run(
            wire,
            name=task.name,
            worker=f"{task.request.hostname}/{os.getpid()}",
            alone=task.request.get(LIMITED, False),
        )
    except FutureEnvelopeError as exc:
        rescue.keep_unreadable(wire, exc, name=task.name, id=str(task.request.id))
        raise


def _keep_unknown(kind: str | None, wire: object, *, name: str) -> bool:
    """Keep what is robust; return whether a ledger has it, or the spool."""
    kept = kind in ("robust", "stored") and rescue.keep_unknown(wire, name=name)
    return kept or kind == "stored"  # Its row is in the ledger, whatever became of the message.


def _take_unknown(name: str, id: str, message: Any, **kwargs: Any) -> None:  # noqa: A002
    """Keep what is robust in the ledger; say the cure beside Celery's own report."""
    kind = (message.headers or {}).get(HEADER)
    if kind is None:
        return
    kept = _keep_unknown(kind, message.payload[0][0], name=name)
    logger.error(
        "%s delivery %s: cannot run %s, expected a receiver that this worker has imported, "
        "got: none of that name. Import its module in AppConfig.ready(), deploy workers "
        "before senders, and name what was renamed with "
        "@async_receiver(..., aliases=[old name]).",
        "Kept" if kept else "Lost",
        id,
        name,
    )
