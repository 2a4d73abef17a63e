"""Robust deliveries through real brokers, workers and databases, and what may go wrong there."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from async_signals import testing
from async_signals.models import Claim, Delivery
from async_signals.wire.envelope import pack
from tests.conftest import require
from tests.testapp import signals
from tests.testproject import brokers
from tests.testproject.routers import LedgerElsewhere
from tests.worker import Worker

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("publishing"),
]

#: Short, so that a lease ends within a test.
SETTINGS = '{"LEASE": 3, "RELAY_INTERVAL": 0.1, "RETRY_RATE": 1000}'


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker(request):
    """Each broker in turn, on a queue of this module's own: other workers have another ledger."""
    require(request.param)
    broker = getattr(brokers, f"{request.param}_broker")(name=f"{request.param}_robust")
    with broker.in_use():
        yield broker


@pytest.fixture(scope="module")
def start_worker(broker, reports, django_db_setup, django_db_blocker):
    """Start workers whose ledger is on PostgreSQL; they end with the module."""
    require("postgresql")
    workers = []

    def start(**env):
        with django_db_blocker.unblock():
            workers.append(
                Worker(
                    broker,
                    reports,
                    ASYNC_SIGNALS_TEST_LEDGER="postgresql",
                    **{"ASYNC_SIGNALS_TEST_SETTINGS": SETTINGS, **env},
                )
            )
        return workers[-1]

    start.workers = workers
    yield start
    for worker in workers:
        if worker.is_alive:
            assert worker.stop() == 0, worker.output


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker()


@pytest.fixture(autouse=True)
def ledger(monkeypatch):
    """The ledger of this process, as the workers have it."""
    monkeypatch.setattr(LedgerElsewhere, "alias", "postgresql")
    return "postgresql"


@pytest.fixture
def number() -> str:
    """Tells the deliveries of one test from those of all others."""
    return uuid.uuid4().hex


def wait_for(look, *, timeout=30):
    """Return what *look* finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing found in time"
        time.sleep(0.05)
    return found


def delivery_in(state, ledger):
    return wait_for(lambda: Delivery.objects.using(ledger).filter(state=state).first())


class TestDelivery:
    def test_a_success_leaves_a_receipt_and_no_row(self, worker, reports, number, ledger) -> None:
        """The ledger stays empty; the claim is done."""
        signals.ordered.send(None, number=number)

        reports.wait(number=number, done=True)
        wait_for(lambda: Claim.objects.using(ledger).filter(done=True).exists())
        assert not Delivery.objects.using(ledger).exists()

    def test_a_failure_comes_back_by_itself(self, worker, reports, number, ledger) -> None:
        """The relay inside the worker publishes the next attempts; each is in the ledger."""
        signals.ordered.send(None, number=number, orders=["raise", "exit", "raise"])

        [got] = reports.wait(number=number, done=True)
        assert got["attempt"] == 4
        row = delivery_in("succeeded", ledger)
        attempts = list(row.attempt_set.using(ledger).values_list("number", "outcome", "exception"))
        assert attempts == [
            (1, "raised", "OSError"),
            (2, "raised", "SystemExit"),
            (3, "raised", "OSError"),
            (4, "succeeded", ""),
        ]

    def test_the_last_attempt_waits_for_a_person(self, worker, reports, number, ledger) -> None:
        """After max_attempts it is failed, and not run again."""
        signals.ordered.send(None, number=number, orders=["raise"] * 9)

        row = delivery_in("failed", ledger)
        assert (row.attempts, row.due_at) == (4, None)
        assert len(reports.wait(4, number=number, order="raise")) == 4

    def test_a_message_that_comes_a_hundred_times_runs_once(
        self, worker, reports, number, broker, ledger
    ) -> None:
        """The same bytes again and again: all but the first are no-ops."""
        with testing.capture() as sent:
            signals.ordered.send(None, number=number, orders=["wait:0.5"])
        task = broker.app.tasks["tests.testapp.receivers.obedient"]
        for _ in range(100):
            task.apply_async((pack(sent),), headers={"async_signals": "robust"})

        reports.wait(number=number, done=True)
        signals.ordered.send(None, number=f"{number}-last")
        reports.wait(number=f"{number}-last", done=True)
        assert len(reports.wait(1, number=number, order="wait:0.5")) == 1
        assert not reports.got(number=number)


class TestDeath:
    def test_a_killed_child_is_a_counted_attempt(self, worker, reports, number, ledger) -> None:
        """SIGKILL in the receiver: it runs again, and the ledger says that its worker died."""
        signals.ordered.send(None, number=number, orders=["die"])

        # In half of the time after which Redis would give its message to another worker.
        reports.wait(number=number, done=True, timeout=30)
        row = delivery_in("succeeded", ledger)
        assert row.deaths == 1
        assert [a.outcome for a in row.attempt_set.using(ledger)] == ["died", "succeeded"]

    def test_three_deaths_quarantine(self, worker, reports, number, ledger) -> None:
        """What kills its worker each time runs three times, and others go on."""
        signals.ordered.send(None, number=number, orders=["die"] * 9)
        signals.ordered.send(None, number=f"{number}-good")

        reports.wait(number=f"{number}-good", done=True)
        row = delivery_in("failed", ledger)
        assert (row.deaths, row.due_at) == (3, None)
        assert "quarantined" in row.reason
        assert len(reports.wait(3, number=number, order="die")) == 3
        assert not reports.got(number=number)

    def test_a_whole_worker_killed(self, start_worker, reports, number, ledger) -> None:
        """A power cut in the receiver: another worker runs it again."""
        start_worker()
        signals.ordered.send(None, number=number, orders=["wait:60"])
        [got] = reports.wait(number=number, order="wait:60")
        [lost] = [each for each in start_worker.workers if each.pid == os.getpgid(got["pid"])]
        lost.kill()

        start_worker()
        [got] = reports.wait(number=number, done=True)
        assert got["run"] == 1
        row = delivery_in("succeeded", ledger)
        assert (row.deaths, row.attempts) == (1, 0)

    def test_longer_than_its_lease(self, worker, reports, number, ledger) -> None:
        """The lease of three seconds is renewed as long as the receiver runs."""
        signals.ordered.send(None, number=number, orders=["wait:7"])

        reports.wait(number=number, done=True)
        wait_for(lambda: Claim.objects.using(ledger).filter(done=True).exists())
        assert not Delivery.objects.using(ledger).exists()
        assert len(reports.wait(1, number=number, order="wait:7")) == 1
        assert not reports.got(number=number)
