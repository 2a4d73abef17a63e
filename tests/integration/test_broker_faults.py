"""A broker that is down, silent or forgetful: the request survives, the log says what was lost."""

from __future__ import annotations

import logging
import os
import socket
import time

import pytest
from celery import Celery
from django.db import transaction

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
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "PUBLISH_TIMEOUT": 0.5}
        proxy.fall_silent()

        assert send_many() < 0.5

    def test_many_threads_share_the_bound(self, proxy, caplog) -> None:
        """More senders than connections: each waits for one, and still not beyond the bound."""
        import threading

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
    def test_a_slow_broker_gets_what_fits_into_the_bound(self, proxy, caplog) -> None:
        """Each answer comes, but late: the bound is for all of a transaction, not for each."""
        send_many()
        before = proxy.waiting()
        proxy.delay = 0.2

        took = send_many(40)

        proxy.delay = 0
        assert took < BOUND
        arrived = proxy.waiting() - before
        assert arrived + len(lost(caplog)) == 40
        if lost(caplog):  # RabbitMQ answers each; Redis takes all in one batch.
            assert "Raise ASYNC_SIGNALS['PUBLISH_TIMEOUT']" in lost(caplog)[0]
            assert arrived > 0


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
        """A preloading web server forks: parent and child both publish, undisturbed."""
        send_many()
        before, opened = proxy.waiting(), proxy.connections
        ready, done = socket.socketpair()
        child = os.fork()
        if child == 0:
            from async_signals.publisher import connections

            try:
                empty = len(connections._pools) == 0
                done.send(b"y" if empty else b"n")
            finally:
                os._exit(0)
        ready.settimeout(20)
        assert ready.recv(1) == b"y"
        os.waitpid(child, 0)
        ready.close()
        done.close()

        send_many()

        assert lost(caplog) == []
        assert proxy.waiting() == before + 1
        assert proxy.connections == opened, "the parent's connection did not survive the child"
