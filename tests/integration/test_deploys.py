"""Two releases of a site, and a backlog between them: nothing of it is lost."""

from __future__ import annotations

import contextlib
import gc
import io
import json

import pytest
from django.core.management import call_command
from django.db import transaction

from async_signals import operations
from async_signals.models import Attempt, Delivery
from async_signals.stats import Filter
from tests.conftest import require
from tests.faults.oracle import wait_until
from tests.testapp.releases import ordered, receivers_of
from tests.testproject import brokers
from tests.testproject.routers import LedgerElsewhere
from tests.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ALIAS = "postgresql"
SETTINGS = '{"LEASE": 3, "RELAY_INTERVAL": 0.1, "RETRY_RATE": 10000}'
COUNT = 10


@pytest.fixture
def broker(settings, monkeypatch):
    require("redis")
    require(ALIAS)
    monkeypatch.setattr(LedgerElsewhere, "alias", ALIAS)
    with brokers.redis_broker(name="deploys").in_use() as broker:
        settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path}
        yield broker


@pytest.fixture
def deploy(broker, reports):
    """Replace the workers by one of a release."""
    with contextlib.ExitStack() as stack:
        running = []

        def deploy(release: str) -> Worker:
            while running:
                assert running.pop().stop() == 0
            worker = Worker(
                broker,
                reports,
                ASYNC_SIGNALS_TEST_LEDGER=ALIAS,
                ASYNC_SIGNALS_TEST_SETTINGS=SETTINGS,
                ASYNC_SIGNALS_TEST_RELEASE=release,
            )
            running.append(worker)
            stack.callback(lambda: worker.is_alive and worker.stop())
            return worker

        yield deploy


@pytest.fixture
def web(broker):
    """Let this process be a web process of one release after the other."""
    from async_signals import connect

    alive = {}

    # No name in these frames is that of a function: where the collector meets the open socket of
    # some client that is gone, pytest keeps the frame that is running until the end of the test.

    def leave() -> None:
        while alive:
            ordered.disconnect(alive.popitem()[1][0])
        gc.collect()

    def become(release: str) -> None:
        leave()
        alive.update(receivers_of(release))
        for name in alive:
            connect(ordered, alive[name][0], name=name, **alive[name][1])

    yield become
    leave()


def send(**arguments) -> None:
    for number in range(COUNT):
        with transaction.atomic(using=ALIAS):
            ordered.send(None, using=ALIAS, number=number, **arguments)


def rows(**filters):
    return Delivery.objects.using(ALIAS).filter(**filters)


def wait_for(count, **filters) -> None:
    found = rows(**filters)
    wait_until(lambda: found.count() == count, what=f"{count} {filters}", timeout=20)


def backlog() -> tuple[int, dict]:
    """Return what ``doctor --backlog`` says in a process of the release that this one is of."""
    out, code = io.StringIO(), 0
    try:
        call_command("async_signals", "doctor", "--backlog", "--json", stdout=out)
    except SystemExit as exc:
        code = exc.code
    return code, json.loads(out.getvalue())


def numbers(found) -> list[int]:
    return sorted(each["number"] for each in found)


def test_web_older_than_worker(web, deploy, reports) -> None:
    """A changed payload: upcasters translate what the old release has sent."""
    web("1")
    send(address="1 Main Street, Ely")
    web("2")
    told = {"checked": COUNT, "unchecked": 0, "undeliverable": 0, "silent": [], "problems": []}
    assert backlog() == (0, told | {"exit": 0})
    deploy("2")

    told = reports.wait(COUNT, kind="ship", release="2", street="1 Main Street", city="Ely")
    assert numbers(told) == list(range(COUNT))
    wait_for(COUNT, state="succeeded")


def test_a_changed_payload_without_upcasters_is_seen_before_the_deploy(
    web, deploy, reports
) -> None:
    """The doctor names receiver, reason and number; what fails all the same can be retried."""
    web("1")
    send(address="1 Main Street, Ely")
    web("2 without upcasters")
    code, found = backlog()
    assert (code, found["exit"], found["checked"], found["undeliverable"]) == (1, 1, COUNT, COUNT)
    [problem] = found["problems"]
    assert (problem["database"], problem["receiver"]) == (ALIAS, "shop.ship")
    assert problem["number"] == COUNT
    assert "missing a required argument: 'street'" in problem["reason"]
    assert "upcasters" in problem["reason"]
    assert rows(pk=problem["first"]).exists()

    deploy("1")  # Rolled back.
    reports.wait(COUNT, kind="ship", release="1")
    wait_for(COUNT, state="succeeded")


def test_worker_older_than_web(web, deploy, reports) -> None:
    """What it cannot read, and what it has no receiver for, is kept for the newer one."""
    deploy("1")
    web("2")
    send(street="1 Main Street", city="Ely")
    # Of a later payload: for a person. Of a receiver to come: waits.
    wait_for(COUNT, receiver="shop.ship", state="failed")
    assert not rows(receiver="shop.ship").exclude(
        exception="async_signals.exceptions.FutureEnvelopeError"
    )
    deploy("2")

    assert numbers(reports.wait(COUNT, kind="invoice")) == list(range(COUNT))
    done = operations.retry(Filter(state="failed"), by="test", using=ALIAS)
    assert done.changed == COUNT
    assert numbers(reports.wait(COUNT, kind="ship", release="2")) == list(range(COUNT))
    wait_for(2 * COUNT, state="succeeded")


def test_a_renamed_receiver(web, deploy, reports) -> None:
    """Its aliases take what was sent under the old name."""
    web("1")
    send(address="here")
    web("renamed")
    assert backlog()[0] == 0
    deploy("renamed")

    told = reports.wait(COUNT, kind="ship", release="renamed", receiver="shop.dispatch")
    assert numbers(told) == list(range(COUNT))
    wait_for(COUNT, state="succeeded")


def orphaned(web, deploy) -> None:
    """Send to a receiver, deploy without it, and wait until all is kept."""
    web("1")
    send(address="here")
    web("removed")
    code, found = backlog()
    assert (code, found["undeliverable"]) == (1, COUNT)
    assert "aliases" in found["problems"][0]["reason"]
    worker = deploy("removed")
    wait_until(lambda: worker.output.count("Kept delivery") >= COUNT, what="the keeping of all")


def test_a_removed_receiver_is_kept_and_shown(web, deploy) -> None:
    """Nothing is dropped; the doctor names the receiver and the cures."""
    orphaned(web, deploy)

    assert rows(state="pending").count() == COUNT
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("async_signals", "doctor", "--json", stdout=out)
    [orphans] = [
        each for each in json.loads(out.getvalue())["findings"] if each["about"] == "orphans"
    ]
    assert orphans["text"] == f"{COUNT} deliveries are for shop.ship, which nobody knows"
    assert "aliases" in orphans["cure"]
    assert "replay" in orphans["cure"]


def test_orphans_are_taken_over_by_an_alias(web, deploy, reports) -> None:
    """The next release names the old receiver: what waited is delivered by itself."""
    orphaned(web, deploy)
    deploy("renamed")

    told = reports.wait(COUNT, kind="ship", receiver="shop.dispatch")
    assert numbers(told) == list(range(COUNT))
    wait_for(COUNT, state="succeeded")


def test_orphans_are_replayed_to_another_receiver(web, deploy, reports) -> None:
    """replay --to gives another receiver the event; discard ends what nobody wants."""
    orphaned(web, deploy)
    wanted = Filter(receiver="shop.ship")
    done = operations.replay(wanted, to=["shop.invoice"], by="test", using=ALIAS)
    assert done.changed == COUNT
    operations.discard(wanted, by="test", reason="replayed to shop.invoice", using=ALIAS)

    assert numbers(reports.wait(COUNT, kind="invoice", receiver="shop.invoice")) == list(
        range(COUNT)
    )
    wait_for(COUNT, receiver="shop.invoice", state="succeeded")
    assert rows(receiver="shop.ship", state="discarded").count() == COUNT
    assert not Attempt.objects.using(ALIAS).filter(delivery__receiver="shop.ship").exists()
