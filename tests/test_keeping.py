"""Robust deliveries that no broker has, from wherever they are sent."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.dispatch import Signal

from async_signals.ids import new_id
from async_signals.models import Delivery

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

signal = Signal()


@pytest.fixture
def receiver(connect):
    """Connect a robust receiver; return its name."""

    def make(**options) -> str:
        def receive(**kwargs) -> None: ...

        name = f"tests.keeping.{new_id()}"
        connect(signal, receive, name=name, robust=True, weak=False, **options)
        return name

    return make


@pytest.fixture(params=["function", "coroutine"])
def send(request):
    """Send in a function and in a coroutine, which may not wait for a database."""
    if request.param == "function":
        return lambda **kwargs: signal.send(sender=None, **kwargs)

    async def view(**kwargs) -> None:
        signal.send(sender=None, **kwargs)

    return lambda **kwargs: asyncio.run(view(**kwargs))


class TestWhereItIsSent:
    def test_the_broker_is_down(self, ledger, receiver, send, no_broker) -> None:
        """It is in the ledger, and the sender sees nothing."""
        name = receiver()
        send(n=1)

        row = Delivery.objects.using(ledger).get()
        assert (row.receiver, row.state) == (name, "pending")

    def test_it_is_for_later(self, ledger, receiver, send) -> None:
        """With everything well: what has a countdown waits in the ledger."""
        receiver(countdown=60)
        send(n=1)

        assert Delivery.objects.using(ledger).get().state == "pending"

    def test_it_cannot_be_sent(self, ledger, receiver, send) -> None:
        """It is recorded as failed."""
        receiver()
        send(n=threading.Lock())

        row = Delivery.objects.using(ledger).get()
        assert row.state == "failed"
        assert "'n'" in row.reason


def test_a_database_that_does_not_exist(ledger, receiver) -> None:
    """Named by mistake: recorded as failed, and the sender sees nothing."""
    receiver(using="typo")
    signal.send(sender=None, n=1)

    row = Delivery.objects.using(ledger).get()
    assert row.state == "failed"
    assert "typo" in row.reason
