"""A relay of its own ends when it is asked to, as process managers do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from django.db import OperationalError, connections
from django.dispatch import Signal

from async_signals.models import State
from tests.ledger.conftest import SENT

from .conftest import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def test_once(manage, transactional_db) -> None:
    """With --once it ends when nothing is due."""
    answer = manage("relay", "--once", "--json")

    assert (answer.code, answer.document) == (0, {"published": 0, "refused": 0})


def test_once_while_the_broker_is_down(manage, add, connect, no_broker) -> None:
    """What it left in the ledger is told by its code, for whoever runs it by a timer."""

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="tests.relaying.receive", robust=True)
    row = add(State.PENDING, receiver="tests.relaying.receive")

    answer = manage("relay", "--once")
    assert answer.code == 1
    assert "The broker did not take 1: they stay in the ledger." in answer.out + answer.err
    row.refresh_from_db()
    assert row.state == State.PENDING

    row.due_at = SENT
    row.save()
    answer = manage("relay", "--once", "--json")
    assert (answer.code, answer.document) == (1, {"published": 0, "refused": 1})


def test_once_without_a_database(manage, add, monkeypatch) -> None:
    """A ledger that cannot be asked is no ledger with nothing to do."""

    def away(*args, **kwargs):
        raise OperationalError("gone")

    monkeypatch.setattr("async_signals.relay.due.take_due", away)

    assert manage("relay", "--once").code == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked(transactional_db, number) -> None:
    """SIGTERM and Ctrl-C end it after the batch at hand, with code 0."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "django", "async_signals", "relay"],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
            "PYTHONPATH": str(ROOT),
            "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(names),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "The relay runs; Ctrl-C ends it.\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()

    assert out.splitlines()[0] == "The relay has published 0 deliveries."
    assert process.returncode == 0
