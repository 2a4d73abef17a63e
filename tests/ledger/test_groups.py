"""Of many processes that see one failure, one alerts, and one says that it is over."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from django.utils import timezone

from async_signals.ledger import groups
from async_signals.ledger.failures import death_of
from async_signals.models import Delivery, Event, FailureGroup, State

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

FAILURE = dataclasses.replace(
    death_of("shop.receive"), exception="LookupError", message="no order", fingerprint="f" * 32
)
SEEN = uuid.UUID(int=99)
LIVE = {"due_at": timezone.now()}


def delivery(alias, number: int = 1, **values) -> Delivery:
    """A row of the ledger that has failed as FAILURE says."""
    event, _ = Event.objects.using(alias).get_or_create(
        id=uuid.UUID(int=1), defaults={"sent_at": timezone.now()}
    )
    values = {"state": State.FAILED, "fingerprint": FAILURE.fingerprint, "epoch": 9, **values}
    return Delivery.objects.using(alias).create(
        id=uuid.UUID(int=number),
        event=event,
        receiver="shop.receive",
        sent_at=event.sent_at,
        **values,
    )


def see(alias) -> None:
    groups.seen(SEEN, "shop.receive", FAILURE, alias)


def fail(alias, number: int = 1, **options) -> None:
    """A delivery fails as FAILURE says, and is written down in one transaction."""
    with transaction.atomic(using=alias):
        row = delivery(alias, number)
        groups.seen(row.pk, "shop.receive", FAILURE, alias, **options)


def take_alert(alias) -> bool:
    return groups.take_alert(FAILURE.fingerprint, alias)


def take_recovery(alias) -> bool:
    return groups.take_recovery(FAILURE.fingerprint, alias)


def at_once(function, alias, threads: int = 8) -> list:
    """What *function* returns in each of several threads that call it at the same time."""
    barrier = threading.Barrier(threads)

    def call(_):
        connections[alias].ensure_connection()
        barrier.wait(20)
        try:
            return function(alias)
        finally:
            connections[alias].close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads)))


class TestSeen:
    def test_first_and_last(self, alias, caplog) -> None:
        """The first one makes the group and is logged, later ones move its time."""
        with caplog.at_level(logging.WARNING, "async_signals"):
            see(alias)
        assert caplog.messages == [
            f"Delivery {SEEN} of shop.receive failed in a new way ({'f' * 32}): "
            "LookupError no order"
        ]
        first = groups.find(FAILURE.fingerprint, alias)
        assert (first.receiver, first.exception, first.message, first.alerted_at) == (
            "shop.receive",
            "LookupError",
            "no order",
            None,
        )
        assert abs(first.last_at - first.first_at) < dt.timedelta(seconds=1)
        FailureGroup.objects.using(alias).update(last_at=first.last_at - dt.timedelta(days=1))

        caplog.clear()
        see(alias)
        assert caplog.messages == []
        again = groups.find(FAILURE.fingerprint, alias)
        assert again.first_at == first.first_at
        assert again.last_at >= first.last_at

    def test_at_once(self, alias) -> None:
        """Several that are the first make one group, and none fails."""
        at_once(see, alias)
        assert FailureGroup.objects.using(alias).count() == 1

    def test_nothing_seen(self, alias) -> None:
        """A group that nobody has seen is not found, not alerted about, and not over."""
        assert groups.find("0" * 32, alias) is None
        assert not groups.take_alert("0" * 32, alias)
        assert not groups.take_recovery("0" * 32, alias)


class TestTakeAlert:
    def test_once(self, alias) -> None:
        """One caller is told to alert, until it gives the alert back."""
        see(alias)
        assert [take_alert(alias), take_alert(alias)] == [True, False]
        groups.give_back_alert(FAILURE.fingerprint, alias)
        assert [take_alert(alias), take_alert(alias)] == [True, False]

    def test_at_once(self, alias) -> None:
        """Of several at the same time, one."""
        see(alias)
        assert sorted(at_once(take_alert, alias)) == [False] * 7 + [True]


class TestNobodyHasSaidThatItIsOver:
    """An alert whose group holds nothing up any more does not silence the next failure."""

    @pytest.fixture(autouse=True)
    def alerted(self, alias) -> None:
        see(alias)
        assert take_alert(alias)

    def test_it_is_told_of_again(self, alias) -> None:
        """Once, as the deliveries that fail after that find the first one."""
        fail(alias)
        assert [take_alert(alias), take_alert(alias)] == [True, False]
        fail(alias, 2)
        assert not take_alert(alias)

    def test_at_once(self, alias) -> None:
        """Of many that fail at the same time, one; whatever the order of their transactions."""
        numbers = iter(range(1, 9))

        def run(alias) -> bool:
            fail(alias, next(numbers))
            return take_alert(alias)

        assert sorted(at_once(run, alias)) == [False] * 7 + [True]

    def test_all_written_down_before_any_alert(self, alias) -> None:
        """Failures that see each other when they ask are told of all the same."""
        fail(alias, 1)
        fail(alias, 2)
        assert [take_alert(alias), take_alert(alias)] == [True, False]

    def test_together(self, alias) -> None:
        """Several of one transaction are none that held it up before."""
        with transaction.atomic(using=alias):
            rows = [delivery(alias, number).pk for number in (1, 2)]
            for row in rows:
                groups.seen(row, "shop.receive", FAILURE, alias, together=rows)
        assert [take_alert(alias), take_alert(alias)] == [True, False]

    def test_it_has_failed_so_before(self, alias) -> None:
        """A delivery that fails again as before has held it up all the time."""
        fail(alias, before=FAILURE.fingerprint)
        assert not take_alert(alias)

    def test_another_holds_it_up(self, alias) -> None:
        """As long as another one is failed, it is not over."""
        delivery(alias, 2)
        fail(alias)
        assert not take_alert(alias)


class TestTakeRecovery:
    @pytest.fixture(autouse=True)
    def alerted(self, alias) -> None:
        see(alias)
        assert take_alert(alias)

    def test_once(self, alias) -> None:
        """One caller is told that it is over; then the next failure alerts again."""
        assert [take_recovery(alias), take_recovery(alias)] == [True, False]
        assert take_alert(alias)

    def test_at_once(self, alias) -> None:
        """Of several at the same time, one."""
        assert sorted(at_once(take_recovery, alias)) == [False] * 7 + [True]

    def test_not_alerted(self, alias) -> None:
        """What nobody was told of is not over either."""
        groups.give_back_alert(FAILURE.fingerprint, alias)
        assert not take_recovery(alias)

    @pytest.mark.parametrize(
        "values",
        [
            {"state": State.FAILED},
            {"state": State.PENDING, **LIVE},
            {"state": State.PUBLISHED, **LIVE},
            {"state": State.RUNNING, **LIVE},
            {"state": State.PENDING, "epoch": 1, **LIVE},
        ],
    )
    def test_not_over(self, alias, values) -> None:
        """A delivery that failed, or that is tried again, keeps the group open."""
        row = delivery(alias, **values)
        assert not take_recovery(alias)
        row.delete(using=alias)
        assert take_recovery(alias)

    @pytest.mark.parametrize(
        "values",
        [
            {"state": State.SUCCEEDED},
            {"state": State.DISCARDED},
            {"state": State.PENDING, "epoch": 0, **LIVE},
            {"state": State.FAILED, "fingerprint": "0" * 32},
        ],
    )
    def test_over(self, alias, values) -> None:
        """What succeeded, was given up, begins anew, or failed otherwise, does not."""
        delivery(alias, **values)
        assert take_recovery(alias)

    def test_given_back(self, alias) -> None:
        """Where nobody could be told that it is over, it is to be told again."""
        assert take_recovery(alias)
        groups.give_back_recovery(FAILURE.fingerprint, alias)
        assert [take_recovery(alias), take_recovery(alias)] == [True, False]

    def test_given_back_too_late(self, alias) -> None:
        """What fails again meanwhile is to be alerted about."""
        assert take_recovery(alias)
        fail(alias)
        groups.give_back_recovery(FAILURE.fingerprint, alias)
        assert take_alert(alias)

    def test_the_last_two_at_once(self, alias) -> None:
        """Of deliveries that succeed at the same time, exactly one ends the group."""
        for number in range(1, 9):
            delivery(alias, number)
        numbers = iter(range(1, 9))

        def succeed(alias) -> bool:
            with transaction.atomic(using=alias):
                rows = Delivery.objects.using(alias).filter(id=uuid.UUID(int=next(numbers)))
                rows.update(state=State.SUCCEEDED)
            return take_recovery(alias)

        assert sorted(at_once(succeed, alias)) == [False] * 7 + [True]

    def test_a_failure_meanwhile(self, alias) -> None:
        """A failure that is recorded while a recovery is looked for is seen, or alerts anew."""
        recorded, looking = threading.Event(), threading.Event()

        def fail() -> None:
            with transaction.atomic(using=alias):
                delivery(alias)
                see(alias)
                recorded.set()
                assert looking.wait(20)
                threading.Event().wait(0.3)  # The other one waits for the row by now.
            connections[alias].close()

        with ThreadPoolExecutor(1) as pool:
            failing = pool.submit(fail)
            assert recorded.wait(20)
            looking.set()
            assert not take_recovery(alias)
            failing.result()
