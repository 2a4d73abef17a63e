"""``AtomicSave``, and the check that tells who needs it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import uuid

import pytest
from django.core import checks
from django.db import DatabaseError, connections, router, transaction
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from async_signals.ids import new_id
from async_signals.models import Delivery
from tests.testapp.models import Order, Tag
from tests.worker import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class Died(Exception):
    """Stands for whatever ends a process after the save."""


@pytest.fixture
def receive(connect):
    """Connect a durable receiver of an order's saves."""

    def receive(sender, instance, **kwargs) -> None: ...

    connect(post_save, receive, sender=Order, name=f"tests.atomic.{new_id()}", durable=True)
    return receive


@pytest.fixture
def behind():
    """Connect a plain receiver that raises, behind those that are connected by then."""
    made = []

    def connect_behind() -> None:
        def die(**kwargs):
            raise Died

        made.append(die)
        post_save.connect(die, sender=Order)

    yield connect_behind
    for each in made:
        post_save.disconnect(each, sender=Order)


def counts(alias) -> tuple[int, int]:
    return Order.objects.using(alias).count(), Delivery.objects.using(alias).count()


@pytest.mark.parametrize("how", ["save", "create"])
def test_row_and_delivery_are_committed_together(alias, receive, how) -> None:
    """In autocommit, on each database; no warning of autocommit is given."""
    if how == "save":
        Order(name="a").save(using=alias)
    else:
        Order.objects.using(alias).create(name="a")

    assert counts(alias) == (1, 1)


def test_or_neither_is(alias, receive, behind) -> None:
    """An error between the save and the end takes both back."""
    behind()
    with pytest.raises(Died):
        Order(name="a").save(using=alias)

    assert counts(alias) == (0, 0)


def test_a_delivery_that_cannot_be_stored_takes_the_row_back(alias, receive, monkeypatch) -> None:
    """The data without its delivery is what durable excludes."""

    def refuse(*args, **kwargs):
        raise DatabaseError

    monkeypatch.setattr("async_signals.ledger.outgoing.insert_outgoing", refuse)
    with pytest.raises(DatabaseError):
        Order(name="a").save(using=alias)

    assert counts(alias) == (0, 0)


def test_inside_a_transaction_it_adds_nothing(alias, receive) -> None:
    """No savepoint, and the outer transaction decides."""
    with CaptureQueriesContext(connections[alias]) as queries, transaction.atomic(using=alias):
        Order(name="a").save(using=alias)

    assert not [query for query in queries if "SAVEPOINT" in query["sql"]]


#: Dies by SIGKILL when the row is saved and its delivery is stored.
SENDER = """
import os, signal, sys
import django
django.setup()
from django.db.models.signals import post_save
from async_signals import connect
from tests.testapp.models import Order

def receive(**kwargs): ...
def die(**kwargs): os.kill(os.getpid(), signal.SIGKILL)
connect(post_save, receive, sender=Order, name="tests.atomic.killed", durable=True)
post_save.connect(die, sender=Order)
Order(name="a").save(using=sys.argv[1])
"""


def test_a_process_killed_in_between_leaves_neither(alias, receive) -> None:
    """SIGKILL after the save and its event, before the commit."""
    databases = {each: str(connections[each].settings_dict["NAME"]) for each in connections}
    ended = subprocess.run(
        [sys.executable, "-c", SENDER, alias],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
            "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(databases),
        },
        check=False,
    )

    assert ended.returncode == -signal.SIGKILL
    assert counts(alias) == (0, 0)


class TestCheck:
    """W004."""

    def found(self) -> list[checks.CheckMessage]:
        return [each for each in checks.run_checks() if each.id == "async_signals.W004"]

    @pytest.fixture
    def connected(self, connect):
        def connected(sender, **options):
            name = f"tests.atomic.{uuid.uuid4().hex}"
            connect(post_save, lambda **kwargs: None, sender=sender, name=name, weak=False,
                    **({"durable": True} | options))  # fmt: skip
            return name

        return connected

    def test_it_names_receiver_and_cure(self, connected, settings) -> None:
        """A durable receiver of saves, on a database without ATOMIC_REQUESTS."""
        name = connected(Tag, using="other")
        told = [str(each) for each in self.found() if "'other'" in each.msg]
        assert len(told) == 1
        assert name in told[0]
        assert "AtomicSave" in told[0]

    @pytest.mark.parametrize("policy", ["raise", "allow"])
    def test_a_site_that_has_decided_is_left_alone(self, connected, settings, policy) -> None:
        """Whatever it has decided."""
        connected(Tag, using="other")
        settings.ASYNC_SIGNALS = {"DURABLE_OUTSIDE_ATOMIC": policy}
        assert self.found() == []

    def test_the_cures_silence_it(self, connected, monkeypatch) -> None:
        """AtomicSave, ATOMIC_REQUESTS, and receivers that are not durable."""
        connected(Order, using="other")
        connected(Tag, using="other", durable=False, robust=True)
        assert not [each for each in self.found() if "'other'" in each.msg]
        connected(Tag, using="other")
        monkeypatch.setitem(connections["other"].settings_dict, "ATOMIC_REQUESTS", True)
        assert not [each for each in self.found() if "'other'" in each.msg]


def test_a_router_that_spreads_is_asked_once(receive, monkeypatch) -> None:
    """Its transaction is on the database that has the row."""
    answers = itertools.cycle(["default", "other"])
    monkeypatch.setattr(
        router,
        "db_for_write",
        lambda model, **hints: next(answers) if model is Order else "default",
    )
    order = Order(name="a")
    order.save()

    assert order._state.db == "default"
