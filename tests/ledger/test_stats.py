"""What the pages and commands say about deliveries is what stands in the ledger."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.dispatch import Signal

from async_signals import OperationError, operations, stats
from async_signals.models import (
    Attempt,
    FailureGroup,
    Operation,
    OperationItem,
    Outcome,
    Pause,
    State,
)
from async_signals.stats import Filter

from .conftest import SENT, make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

LATER = SENT + dt.timedelta(hours=1)


class TestFilter:
    def test_in_words(self) -> None:
        """The audit says in words what was meant; of many ids only the first ones."""
        assert str(Filter()) == "all"
        assert str(Filter(receiver="x", state="failed")) == "receiver=x state=failed"
        assert str(Filter(ids=("a", "b"))) == "id=a,b"
        assert str(Filter(ids=tuple("abcde"), until=SENT)) == (
            "id=a,b,c and 2 more until=2026-01-02T03:04:05+00:00"
        )

    @pytest.mark.parametrize(
        "wanted",
        [
            {"receiver": "shop.other"},
            {"signal": "shop.other"},
            {"state": "discarded"},
            {"exception": "KeyError"},
            {"fingerprint": "f"},
            {"since": LATER},
        ],
    )
    def test_each_field_narrows(self, add, wanted) -> None:
        """Every field of a filter is looked at."""
        add()
        fields = {"sent_at" if key == "since" else key: value for key, value in wanted.items()}
        other = add(**fields)

        assert stats.deliveries(Filter(**wanted), limit=9) == [other]
        assert stats.count(Filter(**wanted)) == 1

    def test_until_and_ids(self, add) -> None:
        """``until`` is exclusive; ids are taken with and without hyphens."""
        first, second = add(), add(sent_at=LATER)

        assert stats.deliveries(Filter(until=LATER), limit=9) == [first]
        assert stats.deliveries(Filter(ids=(second.pk.hex,)), limit=9) == [second]

    def test_no_ids_are_no_deliveries(self, add) -> None:
        """Whoever looked for some and found none does not mean all."""
        add()
        none = Filter(ids=())

        assert (stats.count(none), stats.count(Filter(ids=None))) == (0, 1)
        assert stats.count(Filter(ids=(), receiver="shop.receive")) == 0
        assert (str(none), str(Filter(ids=None))) == ("id=none", "all")

    def test_what_is_no_state(self) -> None:
        """A state with a slip in it would match nothing, for ever; the right one is named."""
        with pytest.raises(ValueError, match="cannot filter") as caught:
            Filter(state="fialed")
        assert str(caught.value) == (
            "cannot filter by state 'fialed': expected one of ['discarded', 'failed', 'pending', "
            "'published', 'running', 'succeeded']. Did you mean 'failed'?"
        )
        with pytest.raises(ValueError, match="expected one of"):
            Filter(state="")

    def test_what_is_no_id(self, add) -> None:
        """A wrong id is named, before any database refuses it."""
        with pytest.raises(OperationError) as caught:
            stats.count(Filter(ids=("7f3",)))
        assert str(caught.value) == (
            "cannot find delivery '7f3': expected a UUID, got: another text. "
            "`manage.py async_signals list` shows ids to copy."
        )


def test_newest_first_with_their_events(add, ledger, django_assert_num_queries) -> None:
    """A list is as long as asked, begins with the newest, and asks once for all their events."""
    old, new = add(), add(sent_at=LATER)

    assert stats.deliveries(Filter(), limit=1) == [new]
    assert stats.deliveries(Filter(), limit=2) == [new, old]
    from django.db import connections

    with django_assert_num_queries(2, connection=connections[ledger]):
        assert [each.event.signal for each in stats.deliveries(Filter(), limit=2)]


def test_a_count_is_capped(add) -> None:
    """A million rows are not counted to say "many"."""
    for _ in range(3):
        add()

    assert stats.count(Filter(), cap=2) == 2


def test_failures_are_grouped(add, ledger) -> None:
    """500 equal failures are one line: how many failed, how many will be tried again, when."""
    for fingerprint, last_at in (("a", SENT), ("b", LATER), ("handled", LATER)):
        FailureGroup.objects.using(ledger).create(
            fingerprint=fingerprint,
            receiver="shop.receive",
            exception="OSError",
            message="no",
            first_at=SENT,
            last_at=last_at,
        )
    add(fingerprint="a")
    add(fingerprint="a")
    add(State.PENDING, fingerprint="b", due_at=LATER)
    add(State.PENDING, fingerprint="b", due_at=SENT)
    add(State.RUNNING, fingerprint="b", due_at=SENT - dt.timedelta(days=1))
    add(State.DISCARDED, fingerprint="handled")
    add(State.SUCCEEDED, fingerprint="handled")

    b, a = stats.failures()

    assert (b.fingerprint, b.failed, b.waiting, b.next_at) == ("b", 0, 3, SENT)
    assert (a.fingerprint, a.failed, a.waiting, a.next_at) == ("a", 2, 0, None)
    assert (a.receiver, a.exception, a.message) == ("shop.receive", "OSError", "no")
    assert (a.first_at, a.last_at) == (SENT, SENT)
    assert stats.failures(since=LATER) == [b]
    assert stats.failures(limit=1) == [b]


def test_show(add, ledger) -> None:
    """One delivery: its attempts in order, what people did to it, and when it is tried next."""
    delivery = add(State.PENDING, due_at=LATER)
    for number in (2, 1):
        Attempt.objects.using(ledger).create(
            delivery=delivery, number=number, outcome=Outcome.RAISED, started_at=SENT
        )
    operation = Operation.objects.using(ledger).create(
        id=uuid.uuid4(), verb="retry", by="ana", via="admin", target="all", started_at=SENT
    )
    OperationItem.objects.using(ledger).create(
        operation=operation, delivery=delivery.pk, changed=True, outcome="retried"
    )

    view = stats.show(str(delivery.pk))

    assert view.delivery == delivery
    assert view.next_at == LATER
    assert [attempt.number for attempt in view.attempts] == [1, 2]
    assert [item.operation.by for item in view.operations] == ["ana"]
    assert stats.show(add(State.RUNNING).pk).next_at is None


def test_show_of_nothing(ledger) -> None:
    """An id that is in no row says why that may be."""
    with pytest.raises(OperationError) as caught:
        stats.show(uuid.UUID(int=7))
    assert str(caught.value) == (
        "cannot show delivery '00000000-0000-0000-0000-000000000007': expected one in the ledger, "
        "got: none of that id. It was pruned, or succeeded at once, which leaves no row."
    )


def test_summary(add, ledger) -> None:
    """How all deliveries stand, by state and by receiver, and how late the latest one is."""
    assert stats.summary().late == 0
    add()
    add(State.PENDING)
    add(receiver="shop.other")
    Pause.objects.using(ledger).create(receiver="shop.paused", since=SENT, by="ana")

    found = stats.summary()

    assert {state: number for state, number in found.states.items() if number} == {
        "failed": 2,
        "pending": 1,
    }
    assert [(each.receiver, each.is_paused) for each in found.receivers] == [
        ("shop.other", False),
        ("shop.paused", True),
        ("shop.receive", False),
    ]
    assert found.receivers[2].states["failed"] == 1
    assert found.oldest_due_at == SENT
    assert found.late > 3600


def test_a_receiver_and_its_former_names(connect, ledger) -> None:
    """A filter by receiver finds what was stored before it was renamed, by either name."""

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="shop.new", aliases=["shop.old"], robust=True)
    save(ledger, make(receiver="shop.old"), make(receiver="shop.new"), make(receiver="shop.x"))

    for name in ("shop.new", "shop.old"):
        found = stats.deliveries(Filter(receiver=name), limit=9)
        assert sorted(each.receiver for each in found) == ["shop.new", "shop.old"]
        assert operations.candidates("retry", Filter(receiver=name), using=ledger).count() == 2
    assert stats.count(Filter(receiver="shop.x")) == 1
