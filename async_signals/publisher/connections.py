"""
Connections to the broker on which nothing waits for longer than it may.

They are not Celery's own: what a worker consumes on needs other limits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from kombu.pools import ProducerPool

from ..conf import get_settings

if TYPE_CHECKING:
    import celery

__all__ = ["STEPS", "Producer", "drop", "pool_of"]

Producer = Any  #: kombu's, whose stubs know neither its batches nor its connection.

#: What a publish may have to wait for, each for an equal share of the time that it has: a
#: free connection, its opening, its first answer, the answer to the message. The rest is
#: for everything that is not waiting.
STEPS = 4.4

#: Connections kept where ``broker_pool_limit`` says none.
POOL_LIMIT = 10

_lock = threading.Lock()
_pools: weakref.WeakKeyDictionary[celery.Celery, tuple[float, ProducerPool]] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[ProducerPool] = []


def pool_of(app: celery.Celery) -> ProducerPool:
    """Return the pool of this process for *app*, made anew when the bound has changed."""
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


def drop(producer: Producer) -> None:
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
