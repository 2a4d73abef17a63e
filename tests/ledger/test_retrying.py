"""A retry is given once, to those that can take it, and everybody learns what became of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
import uuid

import pytest
from django.db import connections
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from async_signals import OperationError, operations
from async_signals.ledger import claims, records, turns
from async_signals.models import Attempt, Delivery, FailureGroup, Operation, State, Turn
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference

from .conftest import FAR, SENT, make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def outcome_of(operation: Operation, delivery: Delivery) -> str:
    return operation.items.get(delivery=delivery.pk).outcome


def test_a_failed_delivery_is_due_now_with_all_its_attempts(add, ledger) -> None:
    """Retried, it is attempted as if for the first time, by the database's clock."""
    delivery = add(attempts=9, deaths=2, publishes=3, reason="gave up", fingerprint="f")

    operation = operations.retry(Filter(ids=(str(delivery.pk),)), by="ana", via="admin")

    delivery.refresh_from_db(using=ledger)
    assert delivery.state == State.PENDING
    assert (delivery.attempts, delivery.deaths, delivery.publishes) == (0, 0, 0)
    assert delivery.finished_at is None
    assert delivery.reason == ""
    assert delivery.fingerprint == "f"
    assert delivery.epoch == 2
    assert Delivery.objects.using(ledger).filter(due_at__lte=Now(), due_at__gt=SENT).count() == 1
    assert (operation.total, operation.changed, operation.unchanged) == (1, 1, 0)


def test_each_state_has_its_outcome(add, ledger) -> None:
    """What runs, is in the broker or is done is left alone, and the operation says why."""
    expected = {
        State.FAILED: "retried: it had failed",
        State.DISCARDED: "retried: it had been discarded",
        State.PENDING: "brought forward: it was to be attempted later",
        State.PUBLISHED: "left: it is in the broker",
        State.RUNNING: "left: it is running",
        State.SUCCEEDED: "left: it has succeeded; replay delivers it again",
    }
    live = (State.PENDING, State.PUBLISHED, State.RUNNING)
    made = {state: add(state, due_at=FAR if state in live else None) for state in expected}
    due = add(State.PENDING)
    unknown = Delivery(pk=uuid.UUID(int=7))
    everyone = [*made.values(), due, unknown]

    operation = operations.retry(Filter(ids=tuple(str(each.pk) for each in everyone)), by="ana")

    assert {state: outcome_of(operation, made[state]) for state in expected} == expected
    assert outcome_of(operation, due) == "left: it is due already"
    assert outcome_of(operation, unknown) == "left: there is no such delivery"
    assert (operation.total, operation.changed, operation.unchanged) == (8, 3, 5)
    for state in (State.PUBLISHED, State.RUNNING, State.SUCCEEDED):
        before = make(state, due_at=made[state].due_at)
        made[state].refresh_from_db(using=ledger)
        for field in ("state", "due_at", "epoch", "attempts", "finished_at"):
            assert getattr(made[state], field) == getattr(before, field)


def test_what_nobody_came_for_in_time_begins_anew(add, ledger) -> None:
    """Published and lost, or running and dead: where no relay looks after it, a person may."""
    published, running = add(State.PUBLISHED), add(State.RUNNING)

    operation = operations.retry(Filter(receiver="shop.receive"), by="ana")

    assert outcome_of(operation, published) == "retried: no worker had claimed it in time"
    assert outcome_of(operation, running) == "retried: its lease was over"
    rows = Delivery.objects.using(ledger).filter(due_at__gt=SENT)
    assert [*rows.values_list("state", "epoch", "deaths")] == [(State.PENDING, 2, 0)] * 2


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_a_worker_that_comes_back_too_late_records_nothing(add, ledger, verb) -> None:
    """A person has decided about its delivery after its lease was over."""
    row = add(State.PENDING, attempts=0)
    reference = Reference(id=str(row.pk), receiver=row.receiver, epoch=2, using=ledger)
    run = claims.claim_stored(reference, worker="w")
    Delivery.objects.using(ledger).update(due_at=SENT)
    why = {"reason": "too old"} if verb == "discard" else {}
    getattr(operations, verb)(Filter(ids=(str(row.pk),)), by="ana", **why)

    assert not records.succeeded(run, 1)
    assert not claims.renew(run)

    row.refresh_from_db(using=ledger)
    assert row.state == (State.DISCARDED if verb == "discard" else State.PENDING)
    again = claims.claim_stored(dataclasses.replace(reference, epoch=3), worker="w")
    assert (again is None) == (verb == "discard")
    assert not records.succeeded(run, 1)


def test_a_turn_does_not_outlive_its_worker(add, ledger) -> None:
    """Else the one before it, come to light later, and a running one would wait for each other."""
    earlier, row = add(State.PENDING, due_at=FAR), add(State.PENDING)
    turns.insert_turns({str(each.pk): "key" for each in (earlier, row)}, ledger, ready=True)
    turn = Turn.objects.using(ledger).filter(delivery=row.pk)
    turn.update(running="key")
    Delivery.objects.using(ledger).filter(pk=row.pk).update(state=State.RUNNING)

    operations.retry(Filter(ids=(str(row.pk),)), by="ana")

    assert turns.held([earlier.pk, row.pk], ledger) == {earlier.pk: False, row.pk: True}


def test_a_filter_means_what_failed_or_waits(add) -> None:
    """Who retries all of a receiver brings nothing back that was discarded on purpose."""
    discarded, _, failed = add(State.DISCARDED), add(State.SUCCEEDED), add()
    add(receiver="shop.other")

    operation = operations.retry(Filter(receiver="shop.receive"), by="ana")

    assert [item.delivery for item in operation.items.all()] == [failed.pk]
    operation = operations.retry(Filter(state="discarded"), by="ana")
    assert [item.delivery for item in operation.items.all()] == [discarded.pk]


def test_who_what_when_and_why_are_written_down(add, ledger) -> None:
    """The audit names the person, the door, the reason and what was asked for."""
    add()
    operations.retry(Filter(state="failed"), by="ana", via="command", reason="smtp fixed")

    stored = Operation.objects.using(ledger).get()

    assert (stored.verb, stored.by, stored.via) == ("retry", "ana", "command")
    assert (stored.reason, stored.target) == ("smtp fixed", "state=failed")
    assert stored.started_at <= stored.finished_at
    with pytest.raises(OperationError) as caught:
        operations.retry(Filter(), by=" ")
    assert str(caught.value) == (
        "cannot retry deliveries: expected who does it, got: by=''. "
        "Pass the name of a user, or of the job that does it."
    )


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_an_attempt_whose_worker_died_is_recorded(add, ledger, verb) -> None:
    """A person who is faster than the relay hides no attempt: it has died, and is counted."""
    why = {"reason": "gone"} if verb == "discard" else {}
    lost, other = add(State.RUNNING, worker="w/7", started_at=SENT), add(State.RUNNING)

    done = getattr(operations, verb)(Filter(state="running"), by="ana", **why)

    assert done.changed == 2
    attempts = Attempt.objects.using(ledger).order_by("delivery_id")
    assert [(each.number, each.outcome) for each in attempts] == [(2, "died")] * 2
    attempt = attempts.get(delivery=lost.pk)
    assert (attempt.worker, attempt.started_at) == ("w/7", SENT)
    group = FailureGroup.objects.using(ledger).get()
    assert (group.receiver, group.fingerprint) == ("shop.receive", attempt.fingerprint)
    rows = Delivery.objects.using(ledger).values_list("state", "deaths", "message", "fingerprint")
    state, deaths = ("pending", 0) if verb == "retry" else ("discarded", 1)
    assert {*rows} == {(state, deaths, "Its worker died.", attempt.fingerprint)}
    assert {other.pk, lost.pk} == {each.delivery_id for each in attempts}


def test_the_set_is_frozen_and_the_oldest_come_first(add, monkeypatch) -> None:
    """What fails while an operation runs is not drawn into it; a limit takes the oldest."""
    monkeypatch.setattr("async_signals.operations.frozen_set.BATCH", 1)
    second, first = add(sent_at=SENT + dt.timedelta(1)), add()
    seen = []

    def progress(done, total):
        seen.append((done, total))
        add()

    operation = operations.retry(Filter(state="failed"), by="ana", progress=progress)

    assert seen == [(1, 2), (2, 2)]
    assert [item.delivery for item in operation.items.order_by("pk")] == [first.pk, second.pk]
    assert operations.retry(Filter(state="failed"), by="ana", limit=1).total == 1


def test_what_breaks_in_the_middle_says_how_far_it_came(add, ledger, monkeypatch) -> None:
    """A batch is retried with its record or not at all; the rest can be retried again."""
    monkeypatch.setattr("async_signals.operations.frozen_set.BATCH", 1)
    add(), add()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operations.retry(Filter(), by="ana", progress=stop)

    operation = Operation.objects.using(ledger).get()
    assert (operation.total, operation.changed, operation.finished_at) == (2, 1, None)
    assert Delivery.objects.using(ledger).filter(state="failed").count() == 1


def in_threads(number: int, run) -> list:
    """Return what *run* returned in each of so many threads that begin together."""
    start, results, errors = threading.Barrier(number), [], []

    def enter():
        try:
            start.wait(10)
            results.append(run())
        except Exception as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=enter) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    return results


def test_twenty_people_retry_once(add, ledger) -> None:
    """Whoever clicks first retries; for the others it is due already."""
    delivery = add()
    wanted = Filter(ids=(str(delivery.pk),))

    done = in_threads(20, lambda: operations.retry(wanted, by="ana"))

    assert sorted(each.changed for each in done) == [0] * 19 + [1]
    left = [outcome_of(each, delivery) for each in done if not each.changed]
    assert set(left) == {"left: it is due already"}


def test_a_worker_that_claims_at_the_same_time_keeps_its_delivery(add, ledger) -> None:
    """Between a worker's claim and a person's retry, one wins; a running one is not touched."""
    delivery = add(State.PENDING, due_at=FAR)

    def claim() -> int:
        mine = Delivery.objects.using(ledger).filter(pk=delivery.pk, state="pending", epoch=2)
        return mine.update(state="running", epoch=3, due_at=FAR)

    runs = iter([claim] + [lambda: operations.retry(Filter(), by="ana").changed] * 4)
    lock = threading.Lock()

    def run():
        with lock:
            mine = next(runs)
        return mine()

    in_threads(5, run)

    delivery.refresh_from_db(using=ledger)
    assert (delivery.state, delivery.epoch, delivery.due_at) == ("running", 3, FAR)


@pytest.mark.parametrize("verb", ["retry", "discard", "replay"])
def test_ten_thousand_at_once(ledger, verb) -> None:
    """All of 10,000 in batches: a few queries for each 500, and in well under a minute."""
    save(ledger, *(make(number=number) for number in range(10_000)))
    why = {"reason": "too old"} if verb == "discard" else {}

    started = time.monotonic()
    with CaptureQueriesContext(connections[ledger]) as queries:
        operation = getattr(operations, verb)(Filter(), by="ana", **why)

    assert operation.changed == 10_000
    # SQLite takes fewer values in one INSERT.
    assert len(queries) <= (20 * 27 if ledger == "default" else 20 * 9)
    assert time.monotonic() - started < 60


def test_a_limit_takes_the_oldest(add, ledger) -> None:
    """However they are meant: typed in any order, with an id of none, or by a filter."""
    rows = [add(sent_at=SENT - dt.timedelta(days=days)) for days in (1, 3, 2)]
    gone = uuid.uuid4()
    ids = tuple(str(key) for key in (gone, *(row.pk for row in rows)))
    oldest = [rows[1].pk, rows[2].pk, rows[0].pk]

    def items(wanted, limit) -> list[uuid.UUID]:
        done = operations.retry(wanted, by="ana", limit=limit)
        return [item.delivery for item in done.items.using(ledger).order_by("pk")]

    assert items(Filter(receiver="shop.receive"), 2) == oldest[:2]
    assert items(Filter(ids=ids), 2) == oldest[:2]
    assert items(Filter(ids=ids, receiver="shop.receive"), 2) == oldest[:2]
    assert items(Filter(ids=ids), None) == [*oldest, gone]
