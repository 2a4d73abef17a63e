"""
Connections to the broker on which nothing waits for longer than it may.

They are not Celery's own: what a worker consumes on needs other limits. And they are pooled
here, because one that does not open in time is left behind, which kombu's pools do not do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..conf import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import celery

__all__ = ["Connection", "acquire"]

#: What a publish may have to wait for, each for an equal share of the time that it has: a
#: free connection, its opening (two), an answer. The rest is for what is not waiting.
STEPS = 4.4

#: Connections of a process where ``broker_pool_limit`` says none.
POOL_LIMIT = 10


class Connection:
    """A connection to the broker, and a producer on it."""

    def __init__(self, app: celery.Celery, step: float) -> None:
        self.step = step  #: Seconds that an answer may take.
        self._connection: Any = app.connection_for_write(connect_timeout=step, heartbeat=0)
        transport = self._connection.transport
        #: None, or what RabbitMQ has not confirmed yet.
        self.confirms = Confirms() if transport.driver_type == "amqp" else None
        #: Other transports publish at once inside a batch; kombu has batches since 5.7.
        self.has_batches = transport.driver_type == "redis"
        self._connection.transport_options = {
            **(self._connection.transport_options or {}),
            **_limits(transport.driver_type, step),
            # Each URL of a list gets one try.
            "max_retries": len(self._connection.alt) or 1,
        }
        self.producer: Any = app.amqp.Producer(self._connection)

    def open(self) -> None:
        """
        Connect, within two steps by the clock on the wall.

        In a thread, since neither the resolver nor a list of addresses nor a greeting that
        comes byte by byte knows a limit for all of it together.

        Raises:
            TimeoutError: It has not opened in time; it must not be used again.
            Exception: Whatever the transport raises.
        """
        if self._connection.connected:
            return
        raised: list[BaseException] = []

        def work() -> None:
            try:
                self.producer.revive(self._connection.default_channel)
            except BaseException as exc:  # noqa: BLE001  (raised again where it was called)
                raised.append(exc)

        thread = threading.Thread(target=work, name="async_signals-connect", daemon=True)
        thread.start()
        thread.join(2 * self.step)
        if thread.is_alive():
            raise TimeoutError(f"the broker was not ready within {2 * self.step:.1f} s")
        if raised:
            raise raised[0]
        if self.confirms is not None:
            self.confirms.start(self.producer.channel)

    def wait_for_confirms(self) -> None:
        """
        Return once the broker has confirmed all that was published.

        Raises:
            TimeoutError: It confirms nothing more.
        """
        while self.confirms is not None and self.confirms.waiting:
            self._connection.drain_events(timeout=self.step)

    def drop(self) -> None:
        """Close a broken connection without the farewell that it would not answer."""
        with contextlib.suppress(Exception):
            self._connection.collect(socket_timeout=0.1)

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """What the broker raises over a message or a queue, and ends the channel with."""
        return tuple(self._connection.channel_errors)

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """What leaves a connection that must not be used again."""
        return (*self._connection.connection_errors, *self._connection.channel_errors)


class Confirms:
    """
    What RabbitMQ has not confirmed yet.

    Without confirms it reports success for what it never stored; and kombu's own
    ``confirm_publish`` waits for each message alone.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, Any] = {}  #: Messages by delivery tag, which counts them.
        self.refused: list[Any] = []
        self._last = 0

    def start(self, channel: Any) -> None:
        """Ask for confirms on a new channel."""
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        self._last = 0

    def published(self, message: Any) -> None:
        """Remember what was published just now."""
        self._last += 1
        self.waiting[self._last] = message

    def take_unanswered(self) -> list[Any]:
        """Return, once, what was neither confirmed nor refused."""
        waiting, self.waiting = list(self.waiting.values()), {}
        return waiting

    def take_refused(self) -> list[Any]:
        """Return, once, what was refused."""
        refused, self.refused = self.refused, []
        return refused

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001  (amqp's own form)
        self._take(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001  (amqp's own form)
        self.refused += self._take(delivery_tag, multiple)

    def _take(self, delivery_tag: int, multiple: bool) -> list[Any]:  # noqa: FBT001
        tags = [delivery_tag]
        if multiple:
            tags = [tag for tag in self.waiting if tag <= delivery_tag]
        return [self.waiting.pop(tag) for tag in tags if tag in self.waiting]


def _limits(driver_type: str, step: float) -> dict[str, Any]:
    """Return the options of a transport that keep one answer within *step* seconds."""
    common = {"interval_start": 0, "interval_step": 0, "interval_max": 0}
    match driver_type:
        case "redis":
            return common | {
                "socket_timeout": step,
                "socket_connect_timeout": step,
                "socket_keepalive": True,
                "retry_on_timeout": False,
                "health_check_interval": 10,  # Seconds of idleness, then it is pinged first.
            }
        case "amqp":
            return common | {"read_timeout": step, "write_timeout": step}
    return common


class _Pool:
    """The connections of a process for one Celery app; the one used last is used next."""

    def __init__(self, app: celery.Celery, timeout: float) -> None:
        self.timeout = timeout
        self._idle: list[Connection] = []
        self._limit = app.conf.broker_pool_limit or POOL_LIMIT
        self._free = threading.BoundedSemaphore(self._limit)

    @contextlib.contextmanager
    def acquire(self, app: celery.Celery) -> Iterator[Connection]:
        step = self.timeout / STEPS
        started = time.monotonic()
        if not self._free.acquire(timeout=step):
            raise TimeoutError(
                f"all {self._limit} connections were taken for {time.monotonic() - started:.1f} s"
            )
        try:
            connection = self._idle.pop() if self._idle else Connection(app, step)
            yield connection
            self._idle.append(connection)  # Not after an error.
        finally:
            self._free.release()


_lock = threading.Lock()
_pools: weakref.WeakKeyDictionary[celery.Celery, _Pool] = weakref.WeakKeyDictionary()
_inherited: list[_Pool] = []


def acquire(app: celery.Celery) -> contextlib.AbstractContextManager[Connection]:
    """
    Return a context manager that lends a connection of *app*.

    After an error inside the context the connection is not used again.

    Raises:
        TimeoutError: On entering, if all connections are taken for a step.
    """
    timeout = get_settings().publish_timeout
    with _lock:
        pool = _pools.get(app)
        if pool is None or pool.timeout != timeout:
            pool = _pools[app] = _Pool(app, timeout)
    return pool.acquire(app)


def _forget_inherited() -> None:
    """
    Start a forked child without connections.

    They are kept unused, not freed: freeing one says goodbye on the socket of the parent.
    """
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _inherited.extend(_pools.values())
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
