"""A broker that is down, silent or forgetful: the request survives, the log says what was lost."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

import pytest
from celery import Celery
from django.conf import settings as settings_module
from django.db import transaction
from django.utils.module_loading import import_string
from kombu import Queue

from async_signals.sending.outlet import outlet, publish_and_log
from tests.conftest import require
from tests.proxy import Proxy
from tests.testapp import signals
from tests.testproject import brokers
from tests.testproject.services import port_of

pytestmark = pytest.mark.django_db(transaction=True)

#: The default bound for one publish, seconds.
BOUND = 3.5


@pytest.fixture(params=["redis", "rabbitmq"])
def proxy(request, settings):
    """This process publishes to a real broker through a proxy."""
    require(request.param)
    proxy = Proxy(port_of(request.param))
    # Not the queue of the worker that other tests have running.
    make = getattr(brokers, f"{request.param}_broker")
    broker = make(proxy.port, name=f"{request.param}_proxied")
    broker.make_app()
    direct = make(name=f"{request.param}_proxied")
    proxy.waiting = lambda: messages_in(direct)
    settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path}
    yield proxy
    proxy.close()
    direct.clean()


def messages_in(broker: brokers.Broker) -> int:
    """How many messages lie in the queue, read past the proxy."""
    app = Celery("reader", broker=broker.url, set_as_current=False)
    app.conf.update(
        task_default_queue=broker.queue, broker_transport_options=broker.transport_options
    )
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[broker.queue](connection.default_channel)
        return queue.queue_declare(passive=False).message_count


def send_many(count: int = 1) -> float:
    """Send inside one transaction and return how long its commit took, in seconds."""
    started = time.monotonic()
    with transaction.atomic():
        for n in range(count):
            signals.many.send(sender=None, batch="faults", number=n)
        started = time.monotonic()
    return time.monotonic() - started


def lost(caplog) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "async_signals" and record.levelno == logging.ERROR
    ]


class TestDown:
    def test_refused(self, proxy, caplog) -> None:
        """No broker: each lost delivery is named with the reason, and nothing is raised."""
        proxy.close()

        took = send_many(3)

        assert took < BOUND
        messages = lost(caplog)
        assert len(messages) == 3
        assert "of tests.testapp.receivers.many: cannot publish it" in messages[0]
        assert "Its event is committed and will not be sent again." in messages[0]

    def test_outside_a_transaction(self, proxy, caplog) -> None:
        """In autocommit ``send()`` itself publishes; it raises nothing either."""
        proxy.close()

        started = time.monotonic()
        responses = signals.many.send(sender=None, batch="faults", number=1)

        assert time.monotonic() - started < BOUND
        assert [response for _, response in responses] == [None]
        assert len(lost(caplog)) == 1

    def test_it_comes_back(self, proxy, caplog) -> None:
        """After a silence the next delivery is published; no connection is left broken."""
        send_many()
        before = proxy.waiting()
        proxy.fall_silent()
        send_many()
        proxy.speak()
        proxy.cut()
        caplog.clear()

        send_many()

        assert lost(caplog) == []
        assert proxy.waiting() == before + 1


class TestSilent:
    def test_a_new_connection(self, proxy, caplog) -> None:
        """It accepts and never answers: the sender waits no longer than the bound."""
        proxy.fall_silent()

        took = send_many(3)

        assert took < BOUND
        assert len(lost(caplog)) == 3

    def test_a_connection_in_use(self, proxy, caplog) -> None:
        """It falls silent between two deliveries: the same bound, and nothing claimed as sent."""
        send_many()
        proxy.fall_silent()

        took = send_many(3)

        assert took < BOUND
        assert len(lost(caplog)) == 3

    def test_the_bound_is_a_setting(self, proxy, settings, caplog) -> None:
        """``PUBLISH_TIMEOUT`` says how long a publish may take in all."""
        # By default the opening alone is given 1.6 s; with this it is given 0.7.
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "PUBLISH_TIMEOUT": 1.5}
        proxy.fall_silent()

        assert send_many() < 1.5

    def test_many_threads_share_the_bound(self, proxy, caplog) -> None:
        """More senders than connections: each waits for one, and still not beyond the bound."""
        proxy.fall_silent()
        took = []

        def work() -> None:
            started = time.monotonic()
            signals.many.send(sender=None, batch="faults", number=1)
            took.append(time.monotonic() - started)

        threads = [threading.Thread(target=work) for _ in range(25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)

        assert len(took) == 25
        assert max(took) < BOUND


class TestSlow:
    def test_a_broker_that_is_slow_to_open(self, proxy, caplog) -> None:
        """Each answer of the greeting comes, but late: the bound is for all of it."""
        proxy.delay = 0.6

        took = send_many(20)

        proxy.delay = 0
        assert took < BOUND

    def test_a_broker_that_has_become_slow(self, proxy, caplog) -> None:
        """What it still takes is sent, the rest is named; nothing is unaccounted for."""
        send_many()
        before = proxy.waiting()
        proxy.delay = 0.2

        took = send_many(40)

        proxy.delay = 0
        assert took < BOUND
        assert proxy.waiting() - before + len(lost(caplog)) >= 40

    def test_a_name_that_is_slow_to_resolve(self, proxy, caplog, monkeypatch) -> None:
        """The resolver of the system has no limit; the bound holds all the same."""
        answered = threading.Event()
        resolve = socket.getaddrinfo

        def late(*args, **kwargs):
            answered.wait(20)
            return resolve(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", late)
        took = send_many()
        answered.set()

        assert took < BOUND
        assert "the broker was not ready within" in lost(caplog)[0]


class TestLarge:
    def test_a_healthy_broker_gets_all_of_a_large_transaction(self, proxy, caplog) -> None:
        """The bound is for waiting: what is taken at once does not count."""
        before = proxy.waiting()

        send_many(3000)

        assert lost(caplog) == []
        assert proxy.waiting() == before + 3000


class TestPoison:
    def test_one_that_cannot_be_published_takes_no_other_with_it(
        self, proxy, connect, caplog
    ) -> None:
        """A queue that the broker knows otherwise: its delivery is lost, the others are not."""

        def poisoned(**kwargs) -> None: ...

        app = import_string(settings_module.ASYNC_SIGNALS["CELERY_APP"])
        if not app.conf.broker_url.startswith("amqp"):
            pytest.skip("Redis has no declarations that could differ")
        queue = f"{app.conf.task_default_queue}-poison"
        connect(signals.closed, poisoned, name="shop.poisoned", queue=queue)
        with app.connection_for_write() as connection:
            Queue(queue, queue_arguments={"x-max-length": 7}, channel=connection).declare()
        before = proxy.waiting()
        with transaction.atomic():
            signals.many.send(sender=None, batch="faults", number=1)
            signals.closed.send(sender=None)
            signals.many.send(sender=None, batch="faults", number=2)
        with app.connection_for_write() as connection:
            Queue(queue, channel=connection).delete()

        [message] = lost(caplog)
        assert "of shop.poisoned" in message
        # The one before it may have arrived twice: nobody could say that it had arrived.
        assert proxy.waiting() - before in (2, 3)


class TestFailover:
    def test_the_next_url_is_tried(self, proxy, caplog) -> None:
        """A list of brokers whose first is down: the delivery goes to the second."""
        app = import_string(settings_module.ASYNC_SIGNALS["CELERY_APP"])
        scheme, _, rest = app.conf.broker_url.partition("://")
        before = proxy.waiting()
        app.conf.broker_url = f"{scheme}://127.0.0.1:1/9;{scheme}://{rest}"

        send_many(2)

        assert lost(caplog) == []
        assert proxy.waiting() == before + 2


class TestIdle:
    def test_a_connection_that_was_closed_while_idle(self, proxy, caplog) -> None:
        """Brokers and load balancers close idle connections; no delivery is lost to that."""
        send_many()
        before = proxy.waiting()
        proxy.cut()

        send_many(5)

        assert lost(caplog) == []
        assert proxy.waiting() == before + 5


class TestFork:
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_child_has_connections_of_its_own(self, proxy, caplog) -> None:
        """A preloading server forks: both publish, and neither disturbs the other."""
        send_many()
        before, opened = proxy.waiting(), proxy.connections
        captured = []
        token = outlet.set(captured.extend)
        signals.many.send(sender=None, batch="faults", number=1)
        outlet.reset(token)
        ready, done = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                publish_and_log(captured)
                done.send(b"y")
            finally:
                os._exit(0)
        ready.settimeout(20)
        assert ready.recv(1) == b"y"
        os.waitpid(child, 0)
        ready.close()
        done.close()

        opened_by_child = proxy.connections - opened
        send_many()

        assert lost(caplog) == []
        assert proxy.waiting() == before + 2
        assert opened_by_child > 0
        assert proxy.connections == opened + opened_by_child, "the parent had to connect again"
