"""``order_by`` with real workers: one key after the other, many keys at once."""

from __future__ import annotations

import collections
import contextlib
import threading
import time

import pytest
from django.db import connections, transaction

from async_signals import operations
from async_signals.models import Delivery, Turn
from async_signals.stats import Filter
from tests.conftest import require
from tests.faults.oracle import Run, wait_until
from tests.testapp.effects import ordered_happened
from tests.testproject import brokers
from tests.testproject.routers import LedgerElsewhere
from tests.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

#: Short, so that a lease ends within a test.
SETTINGS = '{"LEASE": 3, "RELAY_INTERVAL": 0.1, "RETRY_RATE": 10000}'
KEYS, EACH = 6, 15


@pytest.fixture(params=["postgresql", "mariadb"])
def alias(request, monkeypatch):
    require(request.param)
    monkeypatch.setattr(LedgerElsewhere, "alias", request.param)
    return request.param


@pytest.fixture
def workers(alias, reports, settings):
    """Two workers with two processes each, on Redis."""
    require("redis")
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(brokers.redis_broker(name=f"ordered_{alias}").in_use())
        settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path}
        workers = []
        for _ in range(2):
            worker = Worker(
                broker,
                reports,
                ASYNC_SIGNALS_TEST_LEDGER=alias,
                ASYNC_SIGNALS_TEST_SETTINGS=SETTINGS,
            )
            stack.callback(worker.stop)
            workers.append(worker)
        yield workers


def send(run, alias, key, numbers, orders) -> None:
    """Send from a transaction for each, as requests for one object would, one after the other."""
    for number in numbers:
        with transaction.atomic(using=alias):
            ordered_happened.send(
                None, using=alias, run=run.id, number=number, key=key, orders=orders(number)
            )
    connections[alias].close()


def by_key(run, *what) -> dict[int, list[int]]:
    """Return the numbers of each key in the order of the times of what was written."""
    lines = [line for each in what for line in run.written(each)]
    found = collections.defaultdict(list)
    for line in sorted(lines, key=lambda line: line["at"]):
        found[line["number"] // EACH].append(line["number"])
    return found


def wait_for(alias, count, state="succeeded", timeout=60) -> None:
    rows = Delivery.objects.using(alias).filter(state=state)
    wait_until(lambda: rows.count() == count, what=f"{count} {state}", timeout=timeout)


def test_order_of_each_key_and_all_keys_at_once(workers, alias, gates) -> None:
    """Interleaved keys, failures, retries, a death: each key in its order, and one at a time."""
    run = Run("order", "ordered", using=alias)
    held = {0, EACH}

    def orders(number) -> list[str]:
        if number in held:
            return [f"hold:{gates[0].name}"]
        if number == EACH + 7:
            return ["die"]
        return ["raise", "raise"] if number % 5 == 3 else ["wait:0.02"]

    threads = [
        threading.Thread(
            target=send, args=[run, alias, key, range(key * EACH, (key + 1) * EACH), orders]
        )
        for key in range(KEYS)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: held <= run.begun, what="two keys side by side")
    assert not {number for number in run.begun - held if number // EACH < len(held)}
    gates[0].unlink()
    wait_for(alias, KEYS * EACH)
    took = time.monotonic() - started

    assert by_key(run, "effect") == {
        key: list(range(key * EACH, (key + 1) * EACH)) for key in range(KEYS)
    }
    for key, numbers in by_key(run, "start", "effect").items():
        # Had one begun before another was done, its number would stand between two of the other's.
        assert numbers == sorted(numbers), key
    assert not Turn.objects.using(alias).exists()
    assert Delivery.objects.using(alias).filter(deaths=1).count() == 1
    print(f"{KEYS * EACH} deliveries of {KEYS} keys in {took:.1f} s")


def test_a_failure_holds_its_key_and_no_other(workers, alias) -> None:
    """Those behind it wait until a person has retried it; other keys go on."""
    run = Run("order held", "ordered", using=alias)
    send(run, alias, 0, range(5), lambda number: ["raise"] * 4 if number == 1 else [])
    send(run, alias, 1, range(EACH, EACH + 5), lambda number: [])
    wait_for(alias, 1, "failed")
    wait_for(alias, 6)
    assert by_key(run, "effect") == {0: [0], 1: list(range(EACH, EACH + 5))}

    operations.retry(Filter(state="failed"), by="test", using=alias)
    wait_for(alias, 10)
    assert by_key(run, "effect")[0] == list(range(5))
