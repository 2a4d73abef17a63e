"""Durable deliveries through real brokers, workers and databases."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now

from async_signals.ledger import due
from async_signals.models import Delivery
from tests.conftest import require
from tests.testapp.models import Echo, Tag
from tests.testproject import brokers
from tests.testproject.routers import LedgerElsewhere
from tests.worker import ROOT, Worker

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
    broker = getattr(brokers, f"{request.param}_broker")(name=f"{request.param}_durable")
    with broker.in_use():
        yield broker


@pytest.fixture(scope="module")
def worker(broker, reports, django_db_setup, django_db_blocker):
    require("postgresql")
    with django_db_blocker.unblock():
        worker = Worker(
            broker,
            reports,
            ASYNC_SIGNALS_TEST_LEDGER="postgresql",
            ASYNC_SIGNALS_TEST_SETTINGS=SETTINGS,
        )
    yield worker
    assert worker.stop() == 0, worker.output


@pytest.fixture(params=["postgresql", "mariadb"])
def alias(request, worker, monkeypatch):
    """Where the senders write: the ledger's own database, and another one."""
    require(request.param)
    monkeypatch.setattr(LedgerElsewhere, "alias", "postgresql")
    return request.param


class Undo(Exception):
    """Rolls a block back."""


def save(alias, *names, undo=False) -> None:
    try:
        with transaction.atomic(using=alias):
            for name in names:
                Echo.objects.using(alias).create(name=name)
            if undo:
                raise Undo
    except Undo:
        pass


def effects(alias) -> list[str]:
    return sorted(Tag.objects.using(alias).values_list("name", flat=True))


def wait_until_done(alias, count, timeout=60) -> None:
    deadline = time.monotonic() + timeout
    done = Delivery.objects.using(alias).filter(state="succeeded")
    while done.count() < count:
        left = Delivery.objects.using(alias).values_list("state", "reason")
        assert time.monotonic() < deadline, f"{done.count()} of {count} in time: {left}"
        time.sleep(0.1)


def test_exactly_what_was_committed_arrives(alias, reports) -> None:
    """200 saves in transactions, some of them rolled back: each of the others has its effect."""
    run = uuid.uuid4().hex[:8]
    committed = []
    for block in range(40):
        names = [f"d|{run}-{block}-{n}" for n in range(5)]
        undo = block % 3 == 0
        save(alias, *names, undo=undo)
        committed += [] if undo else names

    wait_until_done(alias, len(committed))
    assert effects(alias) == sorted(committed)
    assert Delivery.objects.using(alias).count() == len(committed)


def test_a_large_transaction(alias, reports) -> None:
    """Its bundle is unpacked by a worker, and each delivery runs once."""
    names = [f"d|{uuid.uuid4().hex[:8]}-{n}" for n in range(300)]
    save(alias, *names)

    wait_until_done(alias, len(names))
    assert effects(alias) == sorted(names)
    assert Delivery.objects.using(alias).count() == len(names)


#: Saves some objects in a transaction, and dies as soon as it is committed.
SENDER = """
import os, signal, sys
import django
django.setup()
from django.db import transaction as t
from async_signals.sending.outlet import outlet
from tests.testapp.models import Echo

outlet.set(lambda messages: os.kill(os.getpid(), signal.SIGKILL))
alias, *names = sys.argv[1:]
with t.atomic(using=alias):
    for name in names:
        Echo.objects.using(alias).create(name=name)
"""


def test_a_sender_killed_between_commit_and_publish_loses_nothing(alias, reports) -> None:
    """SIGKILL before anything is published: a relay finds what was committed, in its time."""
    names = [f"d|{uuid.uuid4().hex[:8]}-{n}" for n in range(3)]
    databases = {each: str(connections[each].settings_dict["NAME"]) for each in connections}
    ended = subprocess.run(
        [sys.executable, "-c", SENDER, alias, *names],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
            "ASYNC_SIGNALS_TEST_LEDGER": "postgresql",
            "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(databases),
        },
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    left = Delivery.objects.using(alias).annotate(now=Now())
    assert all(0 < (row.due_at - row.now).total_seconds() <= due.REPUBLISH for row in left)
    left.update(due_at=Now())  # The minute is over.

    wait_until_done(alias, 3)
    assert effects(alias) == sorted(names)


def test_a_worker_killed_after_the_effect_leaves_one(alias, reports) -> None:
    """SIGKILL between effect and record, and an error there: the row is written once."""
    name = f"d|die|raise|{uuid.uuid4().hex[:8]}"
    save(alias, name)

    wait_until_done(alias, 1)
    assert effects(alias) == [name]
    row = Delivery.objects.using(alias).get()
    assert (row.deaths, row.attempts) == (1, 1)
    outcomes = row.attempt_set.using(alias).order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == ["died", "raised", "succeeded"]
