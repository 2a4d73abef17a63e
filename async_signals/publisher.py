"""
Messages -> Celery: bounded in time, on connections of our own.

Celery's own producers may wait for a silent broker without limit, and RabbitMQ reports
success for what it never stored. Neither may happen inside somebody's request.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, cast

import celery
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool

from .conf import get_settings
from .exceptions import PublishError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .message import Message

    _Producer = Any  # kombu's, whose stubs know neither its batches nor its connection.

__all__ = ["HEADER", "celery_app", "is_unconfigured", "publish"]

#: Header of every message of ours, so that a worker knows one even where the task is unknown.
HEADER = "async_signals"

#: What a publish may have to wait for, each for an equal share of the time that it has: a
#: free connection, its opening, its first answer, the answer to the message. The rest is
#: for everything that is not waiting.
STEPS = 4.4

#: Connections kept where ``broker_pool_limit`` says none.
POOL_LIMIT = 10


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
    step = get_settings().publish_timeout / STEPS
    try:
        producer = _pool_of(app).acquire(block=True, timeout=step)
    except Exception as exc:  # noqa: BLE001  (the sender's request must survive any broker)
        return [(message, exc) for message in messages]
    try:
        return _publish(app, producer, messages, step)
    finally:
        producer.release()


def _publish(
    app: celery.Celery, producer: _Producer, messages: Sequence[Message], step: float
) -> list[tuple[Message, Exception]]:
    refused: list[tuple[Message, Exception]] = []
    waiting = collections.deque(messages)
    connection = producer.connection
    broken = (OperationalError, *connection.connection_errors, *connection.channel_errors)
    # Other transports publish at once inside a batch; kombu has batches since 5.7.
    batched = connection.transport.driver_type == "redis" and hasattr(producer, "batch")
    patience = time.monotonic() + step / 2
    fresh = False
    while True:
        before = tuple(waiting)
        try:
            with producer.batch() if batched else contextlib.nullcontext():
                while waiting:
                    try:
                        _apply(app, waiting[0], producer=producer, retry=False)
                    except broken:
                        raise
                    except Exception as exc:  # noqa: BLE001  (of this message, not of the broker)
                        refused.append((waiting[0], exc))
                    waiting.popleft()
        except Exception as exc:  # noqa: BLE001  (the sender's request must survive any broker)
            _drop(producer)
            if batched:  # How much of it arrived is not known.
                waiting = collections.deque(before)
            if time.monotonic() > patience:
                return refused + [(message, exc) for message in waiting]
            # It failed at once. Brokers close idle connections: once more on a new one.
            if fresh:
                if isinstance(exc, OperationalError) or batched:
                    return refused + [(message, exc) for message in waiting]
                # The broker closed the channel over this message, as it does for its size.
                refused.append((waiting.popleft(), exc))
            fresh = not fresh
        else:
            return refused


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
        (message.wire,),
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


# -- Connections

_lock = threading.Lock()
_pools: weakref.WeakKeyDictionary[celery.Celery, tuple[float, ProducerPool]] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[ProducerPool] = []


def _pool_of(app: celery.Celery) -> ProducerPool:
    timeout = get_settings().publish_timeout
    with _lock:
        known = _pools.get(app)
        if known is None or known[0] != timeout:
            known = _pools[app] = (timeout, _new_pool(app, timeout / STEPS))
        return known[1]


def _new_pool(app: celery.Celery, step: float) -> ProducerPool:
    """Return a pool whose connections wait at most *step* seconds for anything."""
    connection = app.connection_for_write(connect_timeout=step, heartbeat=0)
    options: dict[str, Any] = {"max_retries": 0, "connect_retries_timeout": step}
    if connection.transport.driver_type == "redis":
        options |= {
            "socket_timeout": step,
            "socket_connect_timeout": step,
            "socket_keepalive": True,
            "retry_on_timeout": False,
            "health_check_interval": 10,  # Seconds of idleness after which it is pinged first.
        }
    elif connection.transport.driver_type == "amqp":
        # Without confirms RabbitMQ reports success for what it has not stored.
        options |= {"confirm_publish": True, "read_timeout": step, "write_timeout": step}
    connection.transport_options = {**(connection.transport_options or {}), **options}
    limit = app.conf.broker_pool_limit or POOL_LIMIT
    return ProducerPool(
        connection.Pool(limit=limit, close_after_fork=False),
        limit=limit,
        Producer=app.amqp.Producer,
        close_after_fork=False,
    )


def _drop(producer: _Producer) -> None:
    """Close a broken connection without the farewell that a silent broker would not answer."""
    with contextlib.suppress(Exception):
        producer.__connection__.collect(socket_timeout=0.1)
    producer.revive(producer.__connection__)


def _forget_inherited() -> None:
    """
    Start a forked child without connections.

    They are kept unused, not freed: freeing one says goodbye on the socket of the parent.
    """
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _inherited.extend(pool for _, pool in _pools.values())
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
