"""A delivery is given up by a person, for a reason, and everybody is told."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import transaction

from async_signals import OperationError, operations
from async_signals.models import LIVE_STATES, Delivery, Operation, State
from async_signals.signals import delivery_discarded
from async_signals.stats import Filter

from .conftest import FAR, SENT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def told():
    calls = []

    def listen(sender, delivery, reason, **kwargs):
        calls.append((sender, delivery, reason))

    delivery_discarded.connect(listen)
    yield calls
    delivery_discarded.disconnect(listen)


def test_only_what_nobody_works_on_is_given_up(add, ledger, told) -> None:
    """Failed and waiting deliveries go; what is in the broker or running stays."""
    made = {state: add(state, due_at=FAR if state in LIVE_STATES else None) for state in State}

    ids = tuple(str(each.pk) for each in made.values())
    operation = operations.discard(Filter(ids=ids), by="ana", reason="customer left")

    outcomes = {item.delivery: item.outcome for item in operation.items.all()}
    assert {state: outcomes[each.pk] for state, each in made.items()} == {
        State.FAILED: "discarded: it had failed",
        State.PENDING: "discarded: it was waiting",
        State.PUBLISHED: "left: it is in the broker",
        State.RUNNING: "left: it is running",
        State.SUCCEEDED: "left: it has succeeded",
        State.DISCARDED: "left: it is discarded already",
    }
    for state in (State.FAILED, State.PENDING):
        row = Delivery.objects.using(ledger).get(pk=made[state].pk)
        assert (row.state, row.due_at, row.reason) == ("discarded", None, "customer left")
        assert row.finished_at > SENT
    assert {delivery.id for _, delivery, _ in told} == {
        str(made[State.FAILED].pk),
        str(made[State.PENDING].pk),
    }


def test_what_nobody_came_for_in_time_is_given_up(add, ledger, told) -> None:
    """Of a receiver that was removed: no relay publishes it again, and no worker ends it."""
    made = {state: add(state) for state in LIVE_STATES}

    operation = operations.discard(Filter(receiver="shop.receive"), by="ana", reason="removed")

    outcomes = {item.delivery: item.outcome for item in operation.items.all()}
    assert {state: outcomes[each.pk] for state, each in made.items()} == {
        State.PENDING: "discarded: it was waiting",
        State.PUBLISHED: "discarded: no worker had claimed it in time",
        State.RUNNING: "discarded: its lease was over",
    }
    assert {*Delivery.objects.using(ledger).values_list("state", "due_at")} == {("discarded", None)}
    assert len(told) == 3


@pytest.mark.parametrize("verb", ["retry", "discard", "replay"])
def test_no_ids_change_nothing(add, ledger, verb) -> None:
    """A job that hands on what it has found, and has found nothing, changes nothing."""
    row = add()

    done = getattr(operations, verb)(Filter(ids=()), by="job", reason="gone")

    assert (done.total, done.changed, done.target) == (0, 0, "id=none")
    row.refresh_from_db(using=ledger)
    assert row.state == State.FAILED
    assert Delivery.objects.using(ledger).count() == 1


def test_delivery_discarded_tells_all(add, told) -> None:
    """The signal says which delivery of which event, in how many attempts, and why."""
    row = add()

    operations.discard(Filter(), by="ana", reason="too old")

    [(sender, delivery, reason)] = told
    assert (sender, reason) == (None, "too old")  # No process knows this receiver.
    assert delivery.receiver == "shop.receive"
    assert (delivery.id, delivery.event_id) == (str(row.pk), str(row.event_id))
    assert (delivery.attempt, delivery.sent_at, delivery.replay) == (2, SENT, False)


def test_nothing_is_told_of_what_was_rolled_back(add, ledger, told) -> None:
    """In a request whose transaction fails, the delivery is kept and nobody hears of it."""
    row = add()

    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=ledger):
        operations.discard(Filter(), by="ana", reason="too old")
        raise Undo

    row.refresh_from_db(using=ledger)
    assert row.state == State.FAILED
    assert told == []


def test_a_reason_is_required(add, ledger) -> None:
    """Nobody has to guess later why a delivery was given up."""
    add()

    with pytest.raises(OperationError) as caught:
        operations.discard(Filter(), by="ana", reason=" ")

    assert str(caught.value) == (
        "cannot discard deliveries: expected a reason, got: none. "
        "It is shown to whoever asks later what became of the delivery."
    )
    assert not Operation.objects.using(ledger).exists()


def test_what_was_discarded_can_be_brought_back(add, ledger) -> None:
    """A retry of a discarded delivery forgets why it was given up."""
    row = add()
    operations.discard(Filter(), by="ana", reason="too old")

    operations.retry(Filter(ids=(str(row.pk),)), by="ben")

    row.refresh_from_db(using=ledger)
    assert (row.state, row.reason) == (State.PENDING, "")
    assert row.due_at > SENT + dt.timedelta(days=1)


@pytest.mark.parametrize("reason", ["no\x00", "\udcffno"])
def test_a_reason_that_no_database_takes(ledger, add, reason) -> None:
    """NUL and lone surrogates are left out, in the audit and with the delivery."""
    row = add()

    done = operations.discard(Filter(receiver="shop.receive"), by="ana", reason=reason)

    row.refresh_from_db(using=ledger)
    assert (row.reason, done.reason) == ("no", "no")


def test_a_reason_of_nothing_else(ledger, add) -> None:
    """What is left of a reason has to be one."""
    add()

    with pytest.raises(OperationError, match="expected a reason, got: none"):
        operations.discard(Filter(), by="ana", reason="\x00\udcff")
