"""Robust deliveries in the worker: claimed once, recorded when they fail, run again."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import gc
import json
import threading
import types
import uuid

import pytest
from celery.app.task import Context
from celery.exceptions import Reject
from django.core import checks
from django.db import DataError, OperationalError, connections
from django.db.models.functions import Now
from django.dispatch import Signal

import async_signals
from async_signals import (
    FutureEnvelopeError,
    PermanentFailure,
    ReceiverNotFoundError,
    Retry,
    RetryAfter,
    current_delivery,
    operations,
    registry,
    rescue,
    robust,
    tasks,
)
from async_signals.ids import new_id
from async_signals.ledger import claims, due, patience, pruning, records, spool
from async_signals.ledger.clock import seconds_since
from async_signals.ledger.deaths import take_dead_claims
from async_signals.models import Attempt, Claim, Delivery, Event
from async_signals.publisher import HEADER
from async_signals.signals import delivery_failed, delivery_retrying
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference, dump, load, pack, unpack
from async_signals.wire.signing import sign, verified

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
NOW = Retry(initial_delay=0)


@pytest.fixture
def send(connect, sent, ledger):
    """Connect a robust receiver, send to it, and return its name and message."""

    def connect_and_send(receiver, **options):
        name = f"tests.robust.{new_id()}"  # A failure keeps its function alive for a while.
        connect(done, receiver, **({"name": name, "robust": True, "retry": NOW} | options))
        done.send(None, number=7)
        return name, pack(sent)

    return connect_and_send


def run(name, wire):
    return [result.state for result in robust.run(wire, name=name, worker="w@test/1")]


def relay(using):
    """What a relay publishes now, as messages."""
    ready, _, _ = due.take_due(using, receivers=registry.known(), limit=10)
    return [pack([each.reference]) for each in ready]


def test_success_leaves_no_row_in_the_ledger(send, ledger) -> None:
    """A delivery that succeeds at once costs a receipt, and no event, delivery or attempt."""
    calls = []

    def receive(number, **kwargs):
        calls.append(number)

    name, wire = send(receive)

    assert run(name, wire) == ["succeeded"]
    assert calls == [7]
    for model in (Event, Delivery, Attempt):
        assert model.objects.using(ledger).count() == 0
    assert Claim.objects.using(ledger).get().done


@pytest.mark.parametrize("exc", [SystemExit, asyncio.CancelledError])
def test_a_listener_that_exits_ends_nothing(send, ledger, caplog, exc) -> None:
    """What it is told of stays recorded, and the worker's process goes on."""

    def receive(**kwargs):
        raise OSError

    def listen(**kwargs):
        raise exc

    delivery_retrying.connect(listen)
    try:
        name, wire = send(receive)
        assert run(name, wire) == ["retrying"]
    finally:
        delivery_retrying.disconnect(listen)

    assert Attempt.objects.using(ledger).count() == 1
    assert f"{exc.__name__} at " in caplog.text


def cannot_mail(number, **kwargs):
    raise OSError(f"cannot mail order {number}")


@pytest.mark.parametrize(
    ("signal", "attempts"), [(delivery_retrying, 2), (delivery_failed, 1)], ids=["retry", "fail"]
)
def test_an_asynchronous_listener_is_told_what_went_wrong(
    send, sent, connect, ledger, signal, attempts
) -> None:
    """All that can travel reaches it: type, message and fingerprint; the error itself stays."""
    heard = []

    def listen(sender, delivery, failure, exception=None, **kwargs):
        heard.append((sender, delivery, failure, exception, kwargs))

    connect(signal, listen, name=(listener := f"tests.robust.{new_id()}"), robust=True)
    name, wire = send(cannot_mail, retry=Retry(initial_delay=0, max_attempts=attempts))
    run(name, wire)
    assert run(listener, pack(sent[1:])) == ["succeeded"]

    [(sender, delivery, failure, exception, others)] = heard
    row = Delivery.objects.using(ledger).get()
    assert (sender, delivery.id, exception) == (cannot_mail, str(row.pk), None)
    assert (failure.exception, failure.message) == ("OSError", "cannot mail order 7")
    assert failure.fingerprint == row.fingerprint
    assert others["using"] == ledger


def test_a_listener_that_needs_the_error_itself_is_refused(connect) -> None:
    """When it is connected, with the cure; not in the worker."""

    def listen(exception, **kwargs): ...

    with pytest.raises(async_signals.RegistrationError, match="Write exception=None"):
        connect(delivery_failed, listen, name=f"tests.robust.{new_id()}")


def test_a_message_that_comes_again_is_not_run_again(send) -> None:
    """After its success, a hundred copies of a message are no-ops."""
    calls = []

    def receive(**kwargs):
        calls.append(1)

    name, wire = send(receive)

    assert [run(name, wire) for _ in range(100)] == [["succeeded"]] + [["skipped"]] * 99
    assert len(calls) == 1


def test_a_failure_is_recorded_and_run_again(send, ledger) -> None:
    """Every attempt is kept; the success after a failure, too."""
    seen = []

    def receive(number, **kwargs):
        seen.append((current_delivery().id, current_delivery().attempt))
        if len(seen) < 3:
            raise OSError("the mail server is down")

    name, wire = send(receive)

    assert run(name, wire) == ["retrying"]
    assert run(name, wire) == ["skipped"]
    (again,) = relay(ledger)
    assert run(name, again) == ["retrying"]
    assert run(name, again) == ["skipped"]
    (again,) = relay(ledger)
    assert run(name, again) == ["succeeded"]
    assert run(name, again) == run(name, wire) == ["skipped"]

    delivery = Delivery.objects.using(ledger).get()
    assert (delivery.state, delivery.attempts, delivery.due_at) == ("succeeded", 2, None)
    assert [attempt.outcome for attempt in delivery.attempt_set.all()] == [
        "raised",
        "raised",
        "succeeded",
    ]
    assert seen == [(str(delivery.pk), 1), (str(delivery.pk), 2), (str(delivery.pk), 3)]
    first = delivery.attempt_set.first()
    assert (first.exception, first.message) == ("OSError", "the mail server is down")
    assert "raise OSError" in first.own_frames
    assert all(attempt.queued >= 0 for attempt in delivery.attempt_set.all())


@pytest.mark.parametrize(
    ("exc", "retry"),
    [
        (PermanentFailure("no such mailbox"), NOW),
        (KeyError("x"), Retry(on=(OSError,))),
        (OSError("x"), Retry(give_up_on=(OSError,))),
        (OSError("x"), Retry(max_attempts=1)),
        (OSError("x"), Retry(deadline=0)),
    ],
    ids=["permanent", "not listed", "given up on", "no attempts left", "too late"],
)
def test_what_is_not_worth_another_attempt_waits_for_a_person(send, ledger, exc, retry) -> None:
    """It is failed, with its envelope kept, and the relay leaves it alone."""

    def receive(**kwargs):
        raise exc

    name, wire = send(receive, retry=retry)

    assert run(name, wire) == ["failed"]
    delivery = Delivery.objects.using(ledger).get()
    assert (delivery.state, delivery.due_at) == ("failed", None)
    assert delivery.envelope
    assert relay(ledger) == []


def test_a_receiver_says_when_to_come_back(send, ledger) -> None:
    """RetryAfter sets the time of the next attempt, by the database's clock."""

    def receive(**kwargs):
        raise RetryAfter(100)

    name, wire = send(receive)

    assert run(name, wire) == ["retrying"]
    assert relay(ledger) == []
    delivery = Delivery.objects.using(ledger).get()
    attempt = delivery.attempt_set.get()
    assert 99 < (delivery.due_at - attempt.started_at).total_seconds() < 105


def test_two_workers_never_run_one_delivery_at_once(send, ledger) -> None:
    """Of many that get the same message, one runs."""
    if ledger == "default":
        pytest.skip("threads of one process would wait for SQLite's one writer")
    calls, all_ready = [], threading.Barrier(8)

    def receive(**kwargs):
        calls.append(1)

    name, wire = send(receive)

    def work():
        all_ready.wait(10)
        run(name, wire)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1


@pytest.mark.parametrize("exc", [SystemExit, KeyboardInterrupt, RecursionError])
def test_an_attempt_to_leave_is_a_failed_attempt(send, exc) -> None:
    """SystemExit, KeyboardInterrupt and RecursionError in a receiver end the attempt only."""

    def receive(**kwargs):
        raise exc

    assert run(*send(receive)) == ["retrying"]


def test_what_a_worker_could_not_read_is_delivered_after_the_deploy(connect, sent, ledger) -> None:
    """A payload of the future to a plain receiver: kept, and retried it reaches the newer one."""
    got = []

    def receive(first, **kwargs):
        got.append(first)

    name = f"tests.robust.{new_id()}"
    upcasters = [lambda kwargs: {"first": kwargs["number"]}]
    connect(done, receive, name=name, upcasters=upcasters)
    done.send(None, first=7)
    exc = FutureEnvelopeError("expected a payload of version 1 or older")
    rescue.keep_unreadable(pack(sent), exc, name=name, id=sent[0].id)
    assert Delivery.objects.using(ledger).get().state == "failed"

    operations.retry(Filter(receiver=name), by="ana")
    (again,) = relay(ledger)

    assert run(name, again) == ["succeeded"]
    assert got == [7]


def test_what_has_expired_is_discarded_in_sight(send, ledger) -> None:
    """It is not run, however often it comes; the ledger says why."""
    calls = []

    def receive(**kwargs):
        calls.append(current_delivery().replay)

    name, wire = send(receive, expires=0)

    assert run(name, wire) == ["skipped"]
    row = Delivery.objects.using(ledger).get()
    assert (row.state, row.reason) == ("discarded", "expired before a worker had it")
    assert calls == []

    Delivery.objects.using(ledger).update(state="pending", due_at=row.sent_at)
    (again,) = relay(ledger)
    assert run(name, again) == ["skipped"]
    assert calls == []


def test_what_a_person_retries_begins_anew(send, ledger) -> None:
    """Neither an expiry nor a deadline that is over keeps it from its attempts."""
    calls = []

    def receive(**kwargs):
        calls.append(1)
        if len(calls) < 3:
            raise OSError

    name, wire = send(receive, expires=3600, retry=Retry(initial_delay=0, deadline=3600))
    assert run(name, wire) == ["retrying"]
    Delivery.objects.using(ledger).update(state="failed", due_at=None)
    long_ago = Delivery.objects.using(ledger).get().sent_at - dt.timedelta(days=2)
    row = Delivery.objects.using(ledger).get()
    row.envelope = dump(load(row.envelope)._replace(sent=long_ago.isoformat()))
    Delivery.objects.using(ledger).update(envelope=row.envelope, sent_at=long_ago)

    operations.retry(Filter(receiver=name), by="ana")

    (again,) = relay(ledger)
    assert run(name, again) == ["retrying"]
    (again,) = relay(ledger)
    assert run(name, again) == ["succeeded"]


def test_a_worker_that_comes_back_after_its_lease_records_nothing(send, ledger) -> None:
    """Its delivery was given to another one, whose result counts."""
    results = []

    def receive(**kwargs):
        if len(results) == 1:
            raise OSError
        results.append(1)

    name, wire = send(receive)
    envelope = unpack(wire)[0]
    zombie = claims.claim(envelope, dump(envelope), worker="zombie@test/1")
    Claim.objects.using(ledger).update(expires_at=envelope.sent_at)
    [death] = take_dead_claims(ledger, limit=10)
    assert not death.is_final

    assert not records.succeeded(zombie, 1)
    (again,) = relay(ledger)
    reference = unpack(again)[0]
    stale = claims.claim_stored(reference, worker="zombie@test/1")
    Delivery.objects.using(ledger).update(due_at=envelope.sent_at)
    _, [death], _ = due.take_due(ledger, receivers=[name], limit=10)
    (again,) = relay(ledger)
    fresh = claims.claim_stored(unpack(again)[0], worker="w@test/2")

    assert not records.succeeded(stale, 1)
    assert Delivery.objects.using(ledger).get().state == "running"
    assert records.succeeded(fresh, 1)
    assert not records.succeeded(stale, 1)
    outcomes = Attempt.objects.using(ledger).order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == ["died", "died", "succeeded"]


def test_retries_come_back_at_a_rate_and_hold_nobody_up(send, ledger, settings) -> None:
    """Of many that are due, so many a second are published; others go past them."""
    settings.ASYNC_SIGNALS = {"RETRY_RATE": 5}

    def receive(**kwargs):
        raise OSError

    name, wire = send(receive)
    run(name, wire)
    row = Delivery.objects.using(ledger).get()
    many = [copy.copy(row) for _ in range(20)]
    for each in many:
        each.pk = uuid.UUID(new_id())
    Delivery.objects.using(ledger).bulk_create(many)
    fresh = copy.copy(row)
    fresh.pk, fresh.epoch = uuid.UUID(new_id()), 0
    fresh.due_at = row.due_at + dt.timedelta(microseconds=1)
    Delivery.objects.using(ledger).bulk_create([fresh])

    first, _, more = due.take_due(ledger, receivers=[name], limit=10)
    then, _, _ = due.take_due(ledger, receivers=[name], limit=10)

    assert more == {name}
    assert len(first) == 5
    assert str(fresh.pk) in {each.reference.id for each in then}
    assert len(then) <= 2


def test_a_receipt_lives_as_long_as_its_row(send, ledger) -> None:
    """A message that comes again after days finds a failed delivery claimed, and is no new one."""
    calls = []

    def receive(**kwargs):
        calls.append(1)
        raise PermanentFailure

    name, wire = send(receive)
    run(name, wire)
    Claim.objects.using(ledger).update(expires_at=unpack(wire)[0].sent_at)

    list(pruning.prune(ledger))

    assert run(name, wire) == ["skipped"]
    assert calls == [1]


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1])
def test_a_wait_that_is_none_is_an_error_of_the_receiver(send, ledger, seconds) -> None:
    """RetryAfter refuses it where it is raised, which is a failed attempt like any other."""

    def receive(**kwargs):
        raise RetryAfter(seconds)

    assert run(*send(receive)) == ["retrying"]
    assert Delivery.objects.using(ledger).get().exception == "ValueError"


def test_a_year_is_the_longest_wait(send, ledger) -> None:
    """What is longer than databases can count is cut."""

    def receive(**kwargs):
        raise RetryAfter(1e15)

    assert run(*send(receive)) == ["retrying"]


def test_a_database_that_commits_nothing_is_found_by_a_check(connect, monkeypatch) -> None:
    """E006 names the database and the cure."""

    def receive(**kwargs) -> None: ...

    found = [each.id for each in checks.run_checks(tags=["async_signals"])]
    assert "async_signals.E006" not in found
    connect(done, receive, name=f"tests.robust.{new_id()}", robust=True)
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)

    [error] = [
        each
        for each in checks.run_checks(tags=["async_signals"])
        if each.id == "async_signals.E006"
    ]
    assert "'default' has 'AUTOCOMMIT': False" in error.msg
    assert "DATABASE_ROUTERS" in error.hint


class TestLedgerDown:
    """What a worker cannot run, and cannot write down either, is not let go."""

    @pytest.fixture(autouse=True)
    def place(self, settings, tmp_path, monkeypatch):
        settings.ASYNC_SIGNALS = {"SPOOL": str(tmp_path)}
        monkeypatch.setattr(spool, "_ensure_thread", lambda: None)
        monkeypatch.setattr(patience, "PAUSES", ())
        monkeypatch.setattr(tasks, "RELIEF", 0)
        return tmp_path

    @pytest.fixture
    def down(self):
        """The ledger is down, until this is undone."""

        def refuse(*args, **kwargs):
            raise OperationalError("down")

        patch = pytest.MonkeyPatch()
        for module, name in (
            (records, "stored"),
            (records, "stored_unread"),
            (due, "give_back"),
        ):
            patch.setattr(module, name, refuse)
        yield patch
        patch.undo()

    def task(self, name, id):  # noqa: A002
        request = Context(id=id, hostname="w@test", is_eager=False, retries=0)
        return types.SimpleNamespace(name=name, request=request)

    def future(self, wire):
        """The message as a newer release would write it."""
        return sign(json.dumps(json.loads(verified(wire)) | {"v": 99}))

    def test_a_robust_message_of_the_future_stays_with_the_broker(self, send, sent, down) -> None:
        """It is neither acknowledged nor lost."""
        name, wire = send(lambda **kwargs: None)
        with pytest.raises(Reject) as raised:
            tasks._run_robust(self.task(name, sent[0].id), self.future(wire))
        assert raised.value.requeue

    @pytest.mark.parametrize("readable", [True, False])
    def test_a_plain_message(self, connect, sent, down, ledger, caplog, place, readable) -> None:
        """Spooled as failed where the envelope could be read; else it is logged as lost."""
        name = f"tests.robust.{new_id()}"
        connect(done, lambda number, **kwargs: None, name=name)
        done.send(None, number=7)
        wire = pack([sent[0]])
        document = json.loads(verified(wire))
        document["deliveries"][0]["payload"] = 99
        wire = sign(json.dumps(document))
        if not readable:
            wire = self.future(wire)

        with pytest.raises(FutureEnvelopeError):
            tasks._run_plain(self.task(name, sent[0].id), wire)
        down.undo()

        assert spool.drain() == readable
        assert any(each.startswith("Lost") for each in caplog.messages) is not readable
        if readable:
            row = Delivery.objects.using(ledger).get()
            assert (row.state, str(row.pk)) == ("failed", sent[0].id)
            assert row.exception == "async_signals.exceptions.FutureEnvelopeError"
            assert row.envelope

    def test_for_an_unknown_receiver(self, envelope, sent, down, ledger, send) -> None:
        """Spooled, and brought into the ledger to wait for a relay that knows it."""
        _, wire = send(lambda **kwargs: None)
        assert rescue.keep_unknown(wire, name="shop.gone")
        down.undo()

        assert spool.drain() == 1
        row = Delivery.objects.using(ledger).get()
        assert (row.state, str(row.pk)) == ("pending", sent[0].id)
        assert row.exception == "async_signals.exceptions.ReceiverNotFoundError"

    def test_a_reference_for_an_unknown_receiver(self, down, ledger, caplog, place) -> None:
        """It is in the ledger, and nobody says that it is lost."""
        reference = Reference(id=new_id(), receiver="shop.gone", epoch=0, using=ledger)
        for wire in (pack([reference]), "signed elsewhere"):
            caplog.clear()
            message = types.SimpleNamespace(headers={HEADER: "stored"}, payload=([wire], {}, {}))
            tasks._take_unknown("shop.gone", reference.id, message)
            assert caplog.messages[-1].startswith(f"Kept delivery {reference.id}")
        assert list(place.iterdir()) == []


def test_a_receiver_whose_function_has_died(ledger, sent) -> None:
    """While its message was on its way: it waits for a worker in which it lives."""
    name = f"tests.robust.{new_id()}"

    def receive(**kwargs) -> None: ...

    async_signals.connect(done, receive, name=name, robust=True)
    done.send(None, number=7)
    del receive
    gc.collect()
    task = types.SimpleNamespace(name=name, request={HEADER: "robust"})
    with pytest.raises(ReceiverNotFoundError, match="has died"):
        tasks._run(task, (pack([sent[0]]),))

    row = Delivery.objects.using(ledger).get()
    assert (row.state, str(row.pk)) == ("pending", sent[0].id)


def test_workers_that_do_not_know_a_receiver_wait_longer_for_one_that_does(ledger, send) -> None:
    """Each time that it comes back to such a worker, as while two releases share a queue."""
    name, wire = send(lambda **kwargs: None)
    assert rescue.keep_unknown(wire, name="shop.gone")
    rows = Delivery.objects.using(ledger)
    for wait in (5, 10, 20, 40, 60, 60):
        rows.update(due_at=LONG_AGO)
        [ready], _, _ = due.take_due(ledger, receivers=[name], limit=10)
        before = seconds_since(LONG_AGO, ledger)
        assert rescue.keep_unknown(pack([ready.reference]), name="shop.gone")
        after = seconds_since(LONG_AGO, ledger)
        row = rows.get()
        assert row.state == "pending"
        assert before + wait <= (row.due_at - LONG_AGO).total_seconds() <= after + wait


def test_a_claim_that_cannot_be_recorded_stops_no_other(send, ledger, monkeypatch) -> None:
    """Of two workers that died one has left what the database refuses: it waits for a person."""
    for _ in range(2):
        _, wire = send(lambda **kwargs: None)
    refused, other = unpack(wire)[:2]
    for envelope in (refused, other):
        assert claims.claim(envelope, dump(envelope), worker="w@test/1")
    Claim.objects.using(ledger).update(expires_at=Now())
    insert_rows = records.insert_rows

    def insert(rows, envelopes, using):
        if rows[0].pk == refused.id and envelopes[0].kwargs:
            raise DataError("a value out of range")
        insert_rows(rows, envelopes, using)

    monkeypatch.setattr("async_signals.ledger.deaths.insert_rows", insert)
    deaths = take_dead_claims(ledger, limit=10)

    assert {death.delivery.id: death.is_final for death in deaths} == {
        refused.id: True,
        other.id: False,
    }
    row = Delivery.objects.using(ledger).get(pk=refused.id)
    assert (row.state, row.reason) == ("failed", "cannot be recorded: a value out of range")
