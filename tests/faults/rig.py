"""Processes, servers and proxies of one test: whatever it starts, it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import uuid
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from async_signals import registry
from async_signals.wire.envelope import Reference, pack
from tests.conftest import require
from tests.proxy import Proxy
from tests.testproject import brokers
from tests.testproject.routers import LedgerElsewhere
from tests.testproject.services import port_of
from tests.worker import Process, Reports, Worker

from . import oracle
from .servers import PrivateRabbitMQ, PrivateRedis

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SETTINGS", "Rig", "reference"]

#: Short, so that a lease ends within a test.
SETTINGS = {"LEASE": 3, "RELAY_INTERVAL": 0.1, "RETRY_RATE": 10_000}


class Rig:
    """Starts what a test needs."""

    def __init__(self, stack, settings, folder) -> None:
        self._stack = stack
        self._settings = settings
        self._folder = folder
        self.spool = folder / "spool"
        self._reports = Reports()
        stack.callback(self._reports.close)
        self.broker: brokers.Broker | None = None
        self.direct: brokers.Broker | None = None

    @property
    def options(self) -> dict:
        return {**SETTINGS, "SPOOL": str(self.spool)}

    def use(self, kind: str, port: int | None = None, **transport_options) -> brokers.Broker:
        """Publish from here to a queue of this test's own; workers consume from it."""
        require(kind)
        name = f"{kind}_{uuid.uuid4().hex[:8]}"
        make = getattr(brokers, f"{kind}_broker")
        own = {"global_keyprefix": f"faults-{name}:"} if kind == "redis" else {}

        def made(port: int | None) -> brokers.Broker:
            broker = make(port, name=name)
            options = {**broker.transport_options, **own, **transport_options}
            return dataclasses.replace(broker, transport_options=options)

        self.direct = made(None)  #: Past the proxy.
        self.broker = made(port)
        self.broker.make_app()
        self._settings.ASYNC_SIGNALS = {**self.options, "CELERY_APP": self.broker.app_path}
        if port is None or kind == "rabbitmq":
            self._stack.callback(made(None).clean)
        return self.broker

    def configure(self, **options) -> None:
        """Change settings of this process."""
        self._settings.ASYNC_SIGNALS = {**self._settings.ASYNC_SIGNALS, **options}

    def proxy(self, service: str | int) -> Proxy:
        proxy = Proxy(service if isinstance(service, int) else port_of(service))
        self._stack.callback(proxy.close)
        return proxy

    def redis_server(self, *options: str) -> PrivateRedis:
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server to start")
        server = PrivateRedis(self._folder, *options)
        self._stack.callback(server.kill)
        return server

    def rabbitmq_server(self) -> PrivateRabbitMQ:
        server = PrivateRabbitMQ()
        self._stack.callback(server.close)
        return server

    def worker(
        self,
        *args: str,
        options: dict | None = None,
        broker: brokers.Broker | None = None,
        **env: str,
    ) -> Worker:
        env = self._env(options, env, broker)
        return self._kept(Worker(broker or self.broker, self._reports, *args, **env))

    def relay(self, *args: str, options: dict | None = None, **env: str) -> Process:
        return self._program("relay", *args, ready="relay ready.", env=self._env(options, env))

    def sender(self, run: oracle.Run, first: int, count: int, **env: str) -> Process:
        """Start a process that sends when it gets SIGUSR1."""
        return self._program(
            *("send", run.id, run.mode, run.using, str(first), str(count)),
            ready="sender ready.",
            env=self._env(None, env),
        )

    def burst(self, mode: str, size: int, runs: Sequence[oracle.Run]) -> Process:
        """Start a process that sends so many events for each of *runs*, one at each SIGUSR1."""
        told = [mode, runs[0].using, str(size), *(run.id for run in runs)]
        command = "tests.faults.burst_sender", *told
        return self._kept(Process(*command, ready="sender ready.", **self._env(None, {})))

    def crash_points(self, run: oracle.Run, sample: int | None, many: int) -> Process:
        """Start a process whose children send, and die; see ``tests.faults.crash_points``."""
        told = [run.id, run.mode, run.using, str(sample or ""), str(many)]
        command = "tests.faults.crash_points", *told
        return self._kept(Process(*command, ready="sender ready.", **self._env(None, {})))

    def operator(self, what: str, **env: str) -> Process:
        return self._program("ledger", what, ready="operator ready.", env=self._env(None, env))

    def _program(self, *command: str, ready: str, env: dict[str, str]) -> Process:
        return self._kept(Process("tests.faults.program", *command, ready=ready, **env))

    def _kept(self, process: Process) -> Process:
        self._stack.callback(functools.partial(end, process))
        return process

    def _env(
        self,
        options: dict | None,
        env: dict[str, str],
        broker: brokers.Broker | None = None,
    ) -> dict[str, str]:
        broker = broker or self.broker
        known = (
            {}
            if broker is None
            else {
                "ASYNC_SIGNALS_TEST_BROKER": broker.url,
                "ASYNC_SIGNALS_TEST_QUEUE": broker.queue,
                "ASYNC_SIGNALS_TEST_TRANSPORT_OPTIONS": json.dumps(broker.transport_options),
            }
        )
        return {
            **known,
            "ASYNC_SIGNALS_TEST_LEDGER": LedgerElsewhere.alias,
            "ASYNC_SIGNALS_TEST_SETTINGS": json.dumps({**self.options, **(options or {})}),
            **env,
        }

    def messages(self) -> int:
        """How many messages lie in the queue, read past any proxy."""
        app = Celery("reader", broker=self.direct.url, set_as_current=False)
        app.conf.update(
            task_default_queue=self.direct.queue,
            broker_transport_options=self.direct.transport_options,
        )
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[self.direct.queue](connection.default_channel)
            return queue.queue_declare(passive=False).message_count

    def publish_again(self, deliveries, count: int, using: str = oracle.USING) -> None:
        """Publish deliveries *count* times as they travel, each in a message of its own."""
        for each in list(deliveries) * count:
            if registry.get(each.receiver).options.durable:
                self.publish_stored(each, pack([reference(each, using=using)]))
            else:
                self._publish(each.receiver, each.id, pack([each]), "robust")

    def send_by_hand(self, run: oracle.Run, number: int) -> None:
        """Publish the message of what was sent without this package once more."""
        self.broker.app.send_task("tests.testapp.effects.by_hand", (run.id, number, []))

    def publish_stored(self, envelope, wire: object) -> None:
        """Publish *wire* as the message of a durable delivery."""
        self._publish(envelope.receiver, envelope.id, wire, "stored")

    def _publish(self, receiver: str, id: str, wire: object, kind: str) -> None:  # noqa: A002
        self.broker.app.send_task(
            receiver, (wire,), task_id=id, headers={"async_signals": kind}, ignore_result=True
        )


def reference(envelope, **changes) -> Reference:
    """Return what travels of a durable delivery that was stored on PostgreSQL."""
    known = {"id": envelope.id, "receiver": envelope.receiver, "epoch": 0, "using": oracle.USING}
    return Reference(**(known | changes))


def end(process: Process) -> None:
    if process.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        process.kill()
    process.close()
