"""Real brokers for the tests: each with a queue and keys that nobody else uses."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from typing import TYPE_CHECKING

import redis
from celery import Celery

from .services import port_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = uuid.uuid4().hex[:8]


@dataclasses.dataclass(frozen=True)
class Broker:
    name: str
    url: str
    queue: str
    transport_options: dict

    @property
    def app_path(self) -> str:
        """Dotted path of a Celery app that publishes to this broker."""
        return f"{__name__}.app_{self.name}"

    @property
    def app(self) -> Celery:
        """The app at ``app_path``."""
        return globals()[f"app_{self.name}"]

    def make_app(self) -> Celery:
        app = Celery(f"sender-{self.name}", broker=self.url, set_as_current=False)
        app.conf.update(
            task_default_queue=self.queue, broker_transport_options=self.transport_options
        )
        globals()[f"app_{self.name}"] = app
        return app

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Broker]:
        """Have an app that publishes to it, and leave nothing there."""
        self.make_app()
        try:
            yield self
        finally:
            self.clean()

    def clean(self) -> None:
        app = Celery("cleaner", broker=self.url, set_as_current=False)
        app.conf.broker_transport_options = self.transport_options
        with app.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_delete(self.queue)
            if connection.transport.driver_type == "redis":
                prefix = self.transport_options["global_keyprefix"]
                # The client adds the prefix to keys, not to patterns.
                client = redis.Redis(connection_pool=channel.client.connection_pool)
                for key in client.scan_iter(match=f"{prefix}*"):
                    client.delete(key)


def redis_broker(port: int | None = None, name: str = "redis") -> Broker:
    return Broker(
        name=name,
        url=f"redis://127.0.0.1:{port or port_of('redis')}/9",
        queue=f"async-signals-{RUN}-{name}",
        transport_options={"global_keyprefix": f"async-signals-{RUN}:", "visibility_timeout": 60},
    )


def rabbitmq_broker(port: int | None = None, name: str = "rabbitmq") -> Broker:
    return Broker(
        name=name,
        url=f"amqp://guest:guest@127.0.0.1:{port or port_of('rabbitmq')}//",
        queue=f"async-signals-{RUN}-{name}",
        transport_options={},
    )
