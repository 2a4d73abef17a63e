"""
Envelopes -> Celery: bounded in time, on connections of our own.

Celery's own producers may wait for a silent broker without limit, and RabbitMQ reports
success for what it never stored. Neither may happen inside somebody's request.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, cast

import celery
from django.utils.module_loading import import_string
from kombu.exceptions import KombuError, OperationalError

from ..conf import get_settings
from ..envelope import pack
from ..exceptions import PublishError
from .connections import STEPS, drop, pool_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..envelope import Envelope
    from ..registry import Receiver
    from .connections import Producer

__all__ = ["HEADER", "Message", "celery_app", "is_unconfigured", "publish"]

#: Header of every message of ours, so that a worker knows one even where the task is unknown.
HEADER = "async_signals"


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One or more envelopes of one receiver, which travel together."""

    receiver: Receiver
    envelopes: tuple[Envelope, ...]


def publish(messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
    """
    Hand *messages* to Celery in their order, in one batch where the broker has batches.

    Takes at most ``PUBLISH_TIMEOUT`` seconds in all.

    Returns:
        The messages that were not taken, each with the reason. Where a connection broke in
        the middle, some of them may have arrived all the same.
    """
    try:
        app = celery_app()
    except ImportError as exc:
        return [(message, exc) for message in messages]
    if app.conf.task_always_eager:
        for message in messages:
            _apply(app, message)
        return []
    timeout = get_settings().publish_timeout
    step = timeout / STEPS
    # A message that is begun may take two steps more: to connect, and to be answered.
    deadline = time.monotonic() + timeout - 2 * step
    try:
        producer = pool_of(app).acquire(block=True, timeout=step)
    except Exception as exc:  # noqa: BLE001  (the sender's request must survive any broker)
        return [(message, exc) for message in messages]
    try:
        return _publish(app, producer, messages, time.monotonic() + step / 2, deadline)
    finally:
        producer.release()


def _publish(
    app: celery.Celery,
    producer: Producer,
    messages: Sequence[Message],
    patience: float,
    deadline: float,
) -> list[tuple[Message, Exception]]:
    """
    Publish *messages* and return those that were not taken.

    A failure before *patience* came at once: brokers close idle connections, so it is tried
    once more on a new one. No message is begun after *deadline*.
    """
    waiting = collections.deque(messages)
    refused: list[tuple[Message, Exception]] = []
    # Other transports publish at once inside a batch; kombu has batches since 5.7.
    batched = (
        len(messages) > 1
        and hasattr(producer, "batch")
        and producer.connection.transport.driver_type == "redis"
    )
    fresh = False
    while True:
        try:
            with producer.batch() if batched else contextlib.nullcontext():
                _publish_each(app, producer, waiting, refused, deadline)
        except Exception as exc:  # noqa: BLE001  (the sender's request must survive any broker)
            drop(producer)
            if batched:  # How much of it arrived is not known.
                waiting, refused = collections.deque(messages), []
            if time.monotonic() > patience or (fresh and _is_of_connection(exc)):
                return refused + [(message, exc) for message in waiting]
            if fresh:  # The broker hung up over this message, as it does over its size.
                refused.append((waiting.popleft(), exc))
            fresh = not fresh
        else:
            return refused


def _publish_each(
    app: celery.Celery,
    producer: Producer,
    waiting: collections.deque[Message],
    refused: list[tuple[Message, Exception]],
    deadline: float,
) -> None:
    """Take from *waiting* what was published, and what only this message is to blame for."""
    connection = producer.connection
    broken = (OperationalError, *connection.connection_errors, *connection.channel_errors)
    while waiting:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"cannot publish {len(waiting)} more: expected a broker that takes all of them "
                f"within {get_settings().publish_timeout} s, got: a slower one. Raise "
                "ASYNC_SIGNALS['PUBLISH_TIMEOUT'], or send fewer events in one transaction."
            )
        try:
            _apply(app, waiting[0], producer=producer, retry=False)
        except broken:
            raise
        except Exception as exc:  # noqa: BLE001  (each message has its own outcome)
            refused.append((waiting[0], exc))
        waiting.popleft()


def _is_of_connection(exc: Exception) -> bool:
    return isinstance(exc, (KombuError, OSError))


def _apply(app: celery.Celery, message: Message, **how: Any) -> None:
    """Publish one message through Celery's own door, so that routes, signals and events hold."""
    receiver = message.receiver
    task: Any = app.tasks.get(receiver.name)
    if getattr(task, "receiver_name", None) != receiver.name:
        raise PublishError(
            f"cannot publish to {receiver.name}: expected its task in the Celery app "
            f"{app.main!r}, got: {'no task' if task is None else 'another task of that name'}. "
            "Put 'async_signals' into INSTALLED_APPS, and give the receiver a name that no task "
            "has with @async_receiver(..., name=...)."
        )
    task.apply_async(
        (pack(message.envelopes),),
        task_id=message.envelopes[0].id,
        headers={HEADER: "1"},
        add_to_parent=False,
        # The arguments are data of the site: they belong into no header, event or log.
        argsrepr="<envelope>",
        kwargsrepr="{}",
        **receiver.options.for_publish(),
        **how,
    )


def celery_app() -> celery.Celery:
    """
    Return the Celery app that deliveries go through.

    Raises:
        ImportError: ``ASYNC_SIGNALS["CELERY_APP"]`` names what cannot be imported.
    """
    path = get_settings().celery_app
    # celery-types does not know that current_app is a proxy.
    current: Any = celery.current_app
    return cast("celery.Celery", import_string(path) if path else current._get_current_object())


def is_unconfigured(app: celery.Celery) -> bool:
    """Whether *app* is the one that Celery makes up where a process has created none."""
    return app.main == "default" and not app.set_as_current  # type: ignore[attr-defined]
