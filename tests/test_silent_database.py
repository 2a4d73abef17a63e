"""A database that accepts connections and never answers holds up its own deliveries only."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction
from django.dispatch import Signal

from async_signals import relay, robust
from async_signals.ids import new_id
from async_signals.ledger import leases
from async_signals.models import Delivery
from async_signals.wire.envelope import Reference, pack
from tests.conftest import require
from tests.faults.waiting import wait_until
from tests.proxy import Proxy
from tests.testproject.services import PORTS

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
WELL, SILENT = "mariadb", "postgresql"


@pytest.fixture(autouse=True)
def _settings(settings, tmp_path):
    for service in (WELL, SILENT):
        require(service)
    settings.ASYNC_SIGNALS = {"SPOOL": str(tmp_path), "RELAY_INTERVAL": 0.05, "LEASE": 1.5}


@pytest.fixture
def proxy(monkeypatch):
    """What stands before PostgreSQL, for connections that are made from now on."""
    proxy = Proxy(PORTS[SILENT])
    for known in ("_next_look", "_left_alone"):  # A relay that it stops takes it for down.
        monkeypatch.setattr(f"async_signals.ledger.{known}", {})
    monkeypatch.setitem(connections[SILENT].settings_dict, "PORT", str(proxy.port))
    connections[SILENT].close()
    yield proxy
    proxy.close()
    connections[SILENT].close()  # What this test has, too, leads there.


def test_relays_of_other_databases_go_on(connect, lost, proxy, monkeypatch) -> None:
    published, stop = threading.Event(), threading.Event()

    def publish(messages):
        published.set()
        return []

    def receive(**kwargs): ...

    monkeypatch.setattr(relay, "publish", publish)
    connect(done, receive, name=f"tests.silent.{new_id()}", durable=True, countdown=0.1)
    thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_until(lambda: proxy.connections, what="the relay's connection")
        proxy.fall_silent()
        for _ in range(3):  # Once, whoever serves both may not have come to the other one yet.
            published.clear()
            with transaction.atomic(using=WELL):
                done.send(None, using=WELL)
            assert published.wait(20)
    finally:
        stop.set()
        proxy.cut()
        thread.join(20)
    assert not thread.is_alive()


def test_leases_in_other_databases_are_renewed(connect, lost, proxy, monkeypatch) -> None:
    monkeypatch.setattr(leases, "_threads", {})  # Those that wait by the lease of other tests.
    at_work, end = threading.Semaphore(0), threading.Event()
    name = f"tests.silent.{new_id()}"

    def receive(**kwargs):
        at_work.release()
        end.wait(60)

    def work(using):
        row = Delivery.objects.using(using).get()
        reference = Reference(id=str(row.pk), receiver=name, epoch=0, using=using)
        robust.run(pack([reference]), name=name, worker="w@test/1")
        connections.close_all()

    def lease():
        return Delivery.objects.using(WELL).get().due_at

    def wait_until_renewed():
        before = lease()
        wait_until(lambda: lease() > before, what="a renewed lease")

    connect(done, receive, name=name, durable=True)
    threads = []
    for using in (SILENT, WELL):  # In the order in which one thread would renew them.
        with transaction.atomic(using=using):
            done.send(None, using=using)
        threads.append(threading.Thread(target=work, args=(using,), daemon=True))
        threads[-1].start()
        assert at_work.acquire(timeout=20)
    try:
        proxy.fall_silent()
        for _ in range(3):  # As above.
            wait_until_renewed()
    finally:
        end.set()
        proxy.speak()
        proxy.cut()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
