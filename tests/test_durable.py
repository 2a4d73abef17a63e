"""Durable deliveries: stored with the sender's transaction, published after it, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading

import pytest
from asgiref.sync import async_to_sync
from celery.signals import after_task_publish
from django.core import checks
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test import TestCase

from async_signals import (
    EnvelopeError,
    FutureEnvelopeError,
    OutboxError,
    Retry,
    connect,
    relay,
    robust,
    testing,
)
from async_signals.ids import new_id
from async_signals.ledger import aliases, claims, due
from async_signals.ledger.clock import seconds_since
from async_signals.ledger.pausing import paused
from async_signals.models import Attempt, Claim, Delivery, Event, FailureGroup
from async_signals.sending import outbox
from async_signals.sending.outlet import outlet
from async_signals.signals import delivery_failed
from async_signals.wire.envelope import Reference, load, pack
from tests.testapp.models import Article, Tag
from tests.testproject.celery import app
from tests.testproject.routers import LedgerElsewhere

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
NOW = Retry(initial_delay=0)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture
def receiver(connect, alias):
    """Connect a durable receiver; it notes what it was called with."""

    def make(function=None, **options):
        calls = []

        def receive(n, **kwargs):
            calls.append(n)

        receive.calls = calls
        function = function or receive
        function.receiver_name = name = f"tests.durable.{new_id()}"
        connect(done, function, **({"name": name, "durable": True, "retry": NOW} | options))
        return function

    return make


@pytest.fixture
def receive(receiver):
    return receiver()


def send(alias, *numbers) -> None:
    for n in numbers:
        done.send(None, using=alias, n=n)


def rows(alias) -> list[Delivery]:
    return list(Delivery.objects.using(alias).order_by("pk"))


def numbers(alias) -> list[int]:
    return [load(row.envelope).kwargs["n"] for row in rows(alias)]


def seconds_left(row) -> float:
    now = (
        Delivery.objects.using(row._state.db).annotate(now=Now()).values_list("now").get(pk=row.pk)
    )
    return (row.due_at - now[0]).total_seconds()


def now(alias) -> dt.datetime:
    return EPOCH + dt.timedelta(seconds=seconds_since(EPOCH, alias))


def run(function, row, epoch=0) -> str:
    """Let a worker have the message of *row*."""
    name = function.receiver_name
    reference = Reference(id=str(row.pk), receiver=name, epoch=epoch, using=row._state.db)
    [result] = robust.run(pack([reference]), name=name, worker="w@test/1")
    return result.state


def relay_once(alias) -> int:
    """Make everything on *alias* due, and return how much a relay publishes."""
    Delivery.objects.using(alias).filter(state__in=["pending", "published"]).update(due_at=Now())
    return relay.run(threading.Event(), once=True).published


class TestTransaction:
    def test_a_commit_publishes_and_has_said_so(self, alias, receive) -> None:
        """From its commit on it counts as published, and would be again in a minute; no claim."""
        before, minute = now(alias), dt.timedelta(seconds=60)
        with transaction.atomic(using=alias):
            send(alias, 1)

        [row] = rows(alias)
        assert (row.state, row.epoch, row.publishes) == ("published", 0, 1)
        assert before + minute <= row.due_at <= now(alias) + minute
        assert row.published_at is not None
        assert str(row.event_id) == str(Event.objects.using(alias).get().pk)
        assert not Claim.objects.using(alias).exists()
        assert run(receive, row) == "succeeded"
        assert run(receive, row) == "skipped"
        assert receive.calls == [1]

    def test_a_rollback_takes_its_rows_with_it(self, alias, receive) -> None:
        """What is rolled back was never sent, nor stored."""
        with pytest.raises(Undo), transaction.atomic(using=alias):
            send(alias, 1, 2)
            raise Undo

        assert (rows(alias), Event.objects.using(alias).count()) == ([], 0)

    def test_a_transaction_inside_of_one_on_another_database(self, alias, receive) -> None:
        """Each event is stored by the transaction that it belongs to, and dies with that only."""
        beside = "default" if alias != "default" else "other"
        with transaction.atomic(using=alias):
            send(alias, 1)
            with transaction.atomic(using=beside):
                send(beside, 2)
                send(alias, 3)
            assert numbers(beside) == [2]
            with pytest.raises(Undo), transaction.atomic(using=beside):
                send(beside, 4)
                send(alias, 5)
                raise Undo

        assert (numbers(alias), numbers(beside)) == ([1, 3, 5], [2])

    def test_a_rolled_back_savepoint_takes_its_own(self, alias, receive) -> None:
        """The rest is committed, in the order in which it was sent."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            with pytest.raises(Undo), transaction.atomic(using=alias):
                send(alias, 2)
                with transaction.atomic(using=alias):
                    send(alias, 3)
                raise Undo
            with transaction.atomic(using=alias):
                send(alias, 4)
            send(alias, 5)

        assert numbers(alias) == [1, 4, 5]
        assert {row.state for row in rows(alias)} == {"published"}

    def test_the_order_of_ids_is_that_of_sending(self, alias, receive, lost) -> None:
        """Rows sorted by their key are sorted by time, also within a millisecond."""
        with transaction.atomic(using=alias):
            send(alias, *range(50))

        assert numbers(alias) == list(range(50))

    def test_all_kinds_leave_together(self, alias, receive, receiver) -> None:
        """Plain, robust and durable deliveries of a transaction are one batch."""
        others = [receiver(durable=False), receiver(durable=False, robust=True)]
        batches = []
        token = outlet.set(batches.append)
        with transaction.atomic(using=alias):
            send(alias, 1, 2)
        outlet.reset(token)

        assert [len(batch) for batch in batches] == [6]
        assert len(rows(alias)) == 2
        assert len(others) == 2

    def test_rows_stand_where_the_instance_is_saved(self, alias, connect) -> None:
        """A model signal's delivery is written to the database of its save."""

        def receive(**kwargs) -> None: ...

        connect(post_save, receive, sender=Tag, name=f"tests.durable.{new_id()}", durable=True)
        with pytest.raises(Undo), transaction.atomic(using=alias):
            Tag.objects.using(alias).create(name="a")
            raise Undo
        with transaction.atomic(using=alias):
            Tag.objects.using(alias).create(name="b")

        event = Event.objects.using(alias).get(pk=rows(alias)[0].event_id)
        assert event.instance_pk == str(Tag.objects.using(alias).get().pk)

    def test_no_signals_are_sent_for_its_own_rows(self, alias, receive) -> None:
        """The rows are written by bulk inserts: no ``save()``, no signals of it."""
        seen = []
        post_save.connect(seen.append, sender=Delivery, weak=False, dispatch_uid="seen")
        try:
            with transaction.atomic(using=alias):
                send(alias, 1)
        finally:
            post_save.disconnect(sender=Delivery, dispatch_uid="seen")

        assert seen == []

    def test_asend(self, alias, receive) -> None:
        """From a coroutine it is stored and published as from a function."""

        async def send_all():
            await done.asend(None, using=alias, n=1)

        async_to_sync(send_all)()

        assert numbers(alias) == [1]

    def test_a_coroutine_is_not_in_the_block_around_it(self, alias, receive) -> None:
        """It has a connection of its own, on which Django writes nothing from a coroutine."""

        async def send_one():
            send(alias, 2)

        with transaction.atomic(using=alias):
            send(alias, 1)
            with pytest.raises(SynchronousOnlyOperation):
                asyncio.run(send_one())
            send(alias, 3)

        assert numbers(alias) == [1, 3]

    @pytest.mark.parametrize("kept", ["outer", "inner"])
    def test_a_connection_that_was_put_in_the_place_of_another(self, alias, receive, kept) -> None:
        """Also inside of a block: an event goes with the transaction of the one that is there."""
        if alias == "default":
            pytest.skip("SQLite has one writer")
        old = connections[alias]
        with contextlib.suppress(Undo), transaction.atomic(using=alias):
            send(alias, 1)
            connections[alias] = old.copy()
            try:
                with contextlib.suppress(Undo), transaction.atomic(using=alias):
                    send(alias, 2)
                    if kept == "outer":
                        raise Undo
            finally:
                connections[alias].close()
                connections[alias] = old
            if kept == "inner":
                raise Undo

        assert numbers(alias) == ([1] if kept == "outer" else [2])

    def test_manual_transactions_are_left_to_the_relay(self, alias, receive) -> None:
        """With autocommit off nobody can tell the commit; the row is committed all the same."""
        transaction.set_autocommit(False, using=alias)
        try:
            send(alias, 1)
            transaction.commit(using=alias)
        finally:
            transaction.set_autocommit(True, using=alias)

        assert [row.state for row in rows(alias)] == ["pending"]
        assert relay_once(alias) == 1

    def test_a_countdown_is_waited_for_in_the_ledger(self, alias, receiver) -> None:
        """It does not travel before its time."""
        function = receiver(countdown=30)
        before, countdown = now(alias), dt.timedelta(seconds=30)
        with transaction.atomic(using=alias):
            send(alias, 1)

        [row] = rows(alias)
        assert row.state == "pending"
        assert before + countdown <= row.due_at <= now(alias) + countdown
        assert function.calls == []


class TestWhatTravels:
    def test_nothing_of_what_was_sent(self, alias, receive, settings) -> None:
        """The broker gets id, epoch and alias; what is planted in the event stays here."""
        queue = app.conf.task_default_queue
        with app.connection_for_read() as connection:
            waiting = connection.SimpleQueue(queue)
            waiting.clear()
            with transaction.atomic(using=alias):
                done.send(None, using=alias, n="planted value", card="4111 1111 1111 1111")
            message = waiting.get(block=False)
            message.ack()
            waiting.close()

        [row] = rows(alias)
        body = message.body if isinstance(message.body, str) else message.body.decode()
        told = f"{body} {message.headers} {message.properties}"
        assert str(row.pk) in told
        assert "planted" not in told
        assert "4111" not in told
        assert "planted value" in row.envelope

    def test_a_secret_is_masked_wherever_it_stands(self, alias, receiver) -> None:
        """Under another name, or in the middle of a text, as with what has failed."""
        receiver(sensitive=["email"])
        note = "hunter2-planted wrote from mail@planted.example"
        with transaction.atomic(using=alias), testing.capture():
            done.send(None, using=alias, n=1, password="hunter2-planted", note=note,
                      email="mail@planted.example")  # fmt: skip

        assert "planted" not in rows(alias)[0].payload

    def test_a_worker_that_is_faster_is_not_overwritten(self, alias, receive) -> None:
        """A claim that comes before the sender's own note of the publish holds."""

        def claim(sender, headers, **kwargs):
            reference = Reference(id=headers["id"], receiver=sender, epoch=0, using=alias)
            claims.claim_stored(reference, worker="w@test/1")

        # Not weakly: Celery 5.5 stops telling a used app's receivers when one has died.
        after_task_publish.connect(claim, weak=False)
        try:
            with transaction.atomic(using=alias):
                send(alias, 1)
        finally:
            after_task_publish.disconnect(claim)

        [row] = rows(alias)
        assert (row.state, row.epoch) == ("running", 1)

    def test_a_failure_comes_back(self, alias, receiver) -> None:
        """Attempts, retries and results are those of a robust delivery."""
        calls = []

        def receive(n, **kwargs):
            calls.append(n)
            if len(calls) == 1:
                raise OSError("the mail server is down")

        receiver(receive)
        with transaction.atomic(using=alias):
            send(alias, 1)
        [row] = rows(alias)

        assert run(receive, row) == "retrying"
        assert relay_once(alias) == 1
        assert run(receive, row, epoch=1) == "succeeded"
        assert [row.state for row in rows(alias)] == ["succeeded"]


class TestFaults:
    def test_a_sender_that_dies_after_the_commit_loses_nothing(self, alias, receive, lost) -> None:
        """A relay finds what was committed and never published, within a minute."""
        with transaction.atomic(using=alias):
            send(alias, 1)
        [row] = rows(alias)
        assert seconds_left(row) <= due.REPUBLISH

        assert relay_once(alias) == 1
        assert run(receive, row) == "succeeded"

    def test_a_broker_that_is_down(self, alias, receive, no_broker, settings, caplog) -> None:
        """The commit stands, nothing is logged as lost, and the relay publishes it later."""
        with transaction.atomic(using=alias):
            send(alias, 1, 2)
        assert [(row.state, row.publishes) for row in rows(alias)] == [("pending", 0)] * 2
        assert all(seconds_left(row) <= outbox.GRACE for row in rows(alias))
        told = [record.getMessage() for record in caplog.records]
        assert [text for text in told if text.startswith("Kept 2 durable deliveries")]
        assert not [text for text in told if "Lost" in text]

        settings.ASYNC_SIGNALS = {}
        assert relay_once(alias) == 2

    def test_without_its_tables(self, alias, receive) -> None:
        """The error at the end of the block names the cure, and its data is rolled back."""
        with (
            hidden(Delivery._meta.db_table, alias),
            pytest.raises(OutboxError) as caught,
            transaction.atomic(using=alias),
        ):
            Tag.objects.using(alias).create(name="a")
            send(alias, 1)

        assert f"manage.py migrate --database {alias}" in str(caught.value)
        assert receive.receiver_name in str(caught.value)
        assert not Tag.objects.using(alias).exists()

    def test_what_cannot_be_sent_is_recorded_with_the_transaction(self, alias, receive) -> None:
        """The sender does not hear of it; the failed row lives and dies with its data."""
        with pytest.raises(Undo), transaction.atomic(using=alias):
            done.send(None, using=alias, n=threading.Lock())
            raise Undo
        assert rows(alias) == []

        with transaction.atomic(using=alias):
            done.send(None, using=alias, n=threading.Lock())
        [row] = rows(alias)
        assert (row.state, row.envelope) == ("failed", "")
        assert "'n'" in row.reason
        assert FailureGroup.objects.using(alias).count() == 1

    @pytest.mark.parametrize("undone", [False, True])
    def test_one_that_is_too_large_is_recorded_at_the_commit(
        self, alias, receive, settings, undone
    ) -> None:
        """As failed, with the name of what is too large; the others leave, the commit stands."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        told = []

        def hear(delivery, **kwargs):
            told.append(delivery.id)

        delivery_failed.connect(hear, sender=receive)
        with contextlib.suppress(Undo), transaction.atomic(using=alias):
            send(alias, 1)
            done.send(None, using=alias, n=2, text="x" * 2000)
            send(alias, 3)
            if undone:
                raise Undo

        if undone:
            assert (rows(alias), told) == ([], [])
            return
        failed = Delivery.objects.using(alias).get(state="failed")
        assert "'text'" in failed.reason
        assert (failed.envelope, told) == ("", [str(failed.pk)])
        left = Delivery.objects.using(alias).filter(state="published").order_by("pk")
        assert [load(row.envelope).kwargs["n"] for row in left] == [1, 3]

    def test_one_that_is_too_large_where_a_test_runs_the_callbacks(
        self, alias, receive, settings
    ) -> None:
        """In an open transaction, too, it takes no other one with it."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        with transaction.atomic(using=alias):
            with TestCase.captureOnCommitCallbacks(using=alias, execute=True):
                send(alias, 1)
                done.send(None, using=alias, n=2, text="x" * 2000)
                send(alias, 3)
            states = [row.state for row in rows(alias)]
        assert sorted(states) == ["failed", "published", "published"]

    def test_what_a_worker_cannot_read_waits_for_a_person(self, alias, receive) -> None:
        """A worker that is older than the sender keeps the row as it is, failed."""
        with transaction.atomic(using=alias):
            send(alias, 1)
        [row] = rows(alias)
        newer = row.envelope.replace('"v":1', '"v":99')
        Delivery.objects.using(alias).update(envelope=newer)

        with pytest.raises(FutureEnvelopeError):
            run(receive, row)
        [row] = rows(alias)
        assert (row.state, row.due_at, row.envelope) == ("failed", None, newer)
        assert "Deploy workers before senders" in row.reason

    def test_one_that_cannot_be_read_stops_no_other(self, alias, receive) -> None:
        """Deliveries that share a message share nothing else."""
        with transaction.atomic(using=alias):
            send(alias, 1, 2)
        first, second = rows(alias)
        Delivery.objects.using(alias).filter(pk=first.pk).update(envelope="{}")
        name = receive.receiver_name
        references = [
            Reference(id=str(row.pk), receiver=name, epoch=0, using=alias)
            for row in (first, second)
        ]

        with pytest.raises(EnvelopeError):
            robust.run(pack(references), name=name, worker="w@test/1")
        assert [row.state for row in rows(alias)] == ["failed", "succeeded"]
        assert receive.calls == [2]

    def test_several_that_are_to_run_alone(self, alias, receive, monkeypatch) -> None:
        """None of them is run, and each is to be published in a message of its own."""
        with transaction.atomic(using=alias):
            send(alias, *range(20))
        name = receive.receiver_name
        references = [
            Reference(id=str(row.pk), receiver=name, epoch=0, using=alias) for row in rows(alias)
        ]
        published = []
        monkeypatch.setattr(
            "async_signals.relay.publish", lambda some: published.extend(some) or []
        )

        [result] = robust.run(pack(references), name=name, worker="w@test/1", alone=True)
        relay.Relay().publish(*result.unpacked)

        assert [message.deliveries for message in published] == [(each,) for each in references]
        assert receive.calls == []
        for each in references:
            [result] = robust.run(pack([each]), name=name, worker="w@test/1", alone=True)
            assert result.state == "succeeded"
        assert receive.calls == [*range(20)]

    def test_a_database_that_is_broken_does_not_stop_the_others(
        self, alias, receive, lost, caplog
    ) -> None:
        """The relay serves each database by itself, and says once which one it cannot use."""
        with transaction.atomic(using=alias):
            send(alias, 1)
        assert {"default", "other", alias} <= {*aliases()}
        broken = "other" if alias == "default" else "default"

        paused()
        with hidden(Delivery._meta.db_table, broken):
            assert relay_once(alias) == 1
        told = [record.getMessage() for record in caplog.records]
        assert len([text for text in told if f"the ledger on '{broken}'" in text]) == 1


class hidden:  # noqa: N801
    """Gives a table another name for a while."""

    def __init__(self, table, alias):
        self.table, self.alias = table, alias

    def __enter__(self):
        self._rename(self.table, f"{self.table}_away")

    def __exit__(self, *exc):
        self._rename(f"{self.table}_away", self.table)

    def _rename(self, old, new):
        with connections[self.alias].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


class TestAutocommit:
    def test_it_is_stored_and_published_at_once(self, alias, receive) -> None:
        """There is no transaction to wait for: the row has one of its own."""
        send(alias, 1)

        [row] = rows(alias)
        assert (row.state, row.publishes) == ("published", 1)

    def test_the_gap_is_told_once_for_each_receiver(self, alias, receive, receiver, caplog) -> None:
        """The warning says what is not safe, and what to do."""
        receiver()
        send(alias, 1, 2, 3)

        told = [record.getMessage() for record in caplog.records if "autocommit" in record.message]
        assert len(told) == 2
        assert "transaction.atomic()" in told[0]

    def test_it_may_be_refused(self, alias, receive, settings) -> None:
        """With "raise" the sender hears of it, and nothing is stored."""
        settings.ASYNC_SIGNALS = {"DURABLE_OUTSIDE_ATOMIC": "raise"}
        with pytest.raises(OutboxError, match="got: autocommit"):
            send(alias, 1)
        assert rows(alias) == []

        with transaction.atomic(using=alias):
            send(alias, 1)
        assert len(rows(alias)) == 1

    def test_it_may_be_allowed(self, alias, receive, settings, caplog) -> None:
        """With "allow" nothing is said."""
        settings.ASYNC_SIGNALS = {"DURABLE_OUTSIDE_ATOMIC": "allow"}
        send(alias, 1)

        assert [row.state for row in rows(alias)] == ["published"]
        assert not caplog.records


class TestSites:
    def test_run_inline(self, alias, receive) -> None:
        """It runs when it would be published."""
        with testing.run_inline(), transaction.atomic(using=alias):
            send(alias, 1)
            assert receive.calls == []
        assert receive.calls == [1]

    def test_capture(self, alias, receive, sent) -> None:
        """The envelope is seen whole."""
        with transaction.atomic(using=alias):
            send(alias, 1)

        assert [envelope.kwargs["n"] for envelope in sent] == [1]

    def test_eager_tasks(self, alias, receive) -> None:
        """Where Celery runs tasks at once nothing is left to do."""
        app.conf.task_always_eager = True
        try:
            with transaction.atomic(using=alias):
                send(alias, 1)
        finally:
            app.conf.task_always_eager = False

        assert receive.calls == [1]
        assert [row.state for row in rows(alias)] == ["succeeded"]
        assert relay_once(alias) == 0


class TestInTestCase(TestCase):
    databases = "__all__"

    def test_callbacks_are_captured(self) -> None:
        """Under ``TestCase`` a durable delivery leaves when its callbacks are run."""
        calls = []

        def receive(n, **kwargs):
            calls.append(n)

        connect(done, receive, name=f"tests.durable.{new_id()}", durable=True)
        with testing.run_inline(), self.captureOnCommitCallbacks(execute=True) as callbacks:
            done.send(None, n=1)
            assert Delivery.objects.count() == 1
            assert calls == []

        assert len(callbacks) == 1
        assert calls == [1]
        done.disconnect(receive)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"effect": "once"}, "cannot use effect='once' alone"),
            ({"durable": True, "robust": False}, "cannot use robust=False together"),
            ({"durable": True, "on_commit": False}, "cannot use on_commit=False together"),
            ({"durable": True, "coalesce": True}, "cannot use coalesce together"),
            (
                {"durable": True, "unique_by": ["n"], "unique_for": 1},
                "cannot use unique_by together",
            ),
            ({"durable": "yes"}, "cannot use durable='yes': expected True or False"),
        ],
        ids=lambda value: "" if isinstance(value, str) else "+".join(value),
    )
    def test_what_excludes_each_other_is_refused(self, connect, options, message) -> None:
        """The error names both options."""
        with pytest.raises(TypeError, match=message):
            connect(done, lambda **kwargs: None, name=f"tests.durable.{new_id()}", **options)

    def test_an_unknown_effect(self, connect) -> None:
        """Those that there are, are named."""
        with pytest.raises(ValueError, match=r"effect='twice': expected one of \('at_least_once',"):
            connect(done, lambda **kwargs: None, name="x", durable=True, effect="twice")

    def test_databases_without_tables_are_found_by_a_check(self, connect, monkeypatch) -> None:
        """E005 names the receiver, the database and the cure, without asking a database."""

        def receive(**kwargs) -> None: ...

        def allow_migrate(self, db, app_label, **hints):
            return False if (db, app_label) == ("other", "async_signals") else None

        monkeypatch.setattr(LedgerElsewhere, "allow_migrate", allow_migrate, raising=False)
        name = f"tests.durable.{new_id()}"
        connect(done, receive, name=name, durable=True, using="other")

        found = [each for each in checks.run_checks() if each.id == "async_signals.E005"]
        assert [name in each.msg and "'other'" in each.msg for each in found] == [True]
        assert "migrate --database other" in found[0].hint


class TestEffectOnce:
    """What the receiver writes is committed together with its success."""

    @pytest.fixture
    def once(self, receiver, alias):
        def make(after=None):
            def write(n, **kwargs):
                Article.objects.using(alias).create(title=str(n))
                if after is not None:
                    after()

            receiver(write, effect="once")
            with transaction.atomic(using=alias):
                send(alias, 1)
            return write, rows(alias)[0]

        return make

    @pytest.fixture
    def effects(self, alias):
        return lambda: Article.objects.using(alias).count()

    def test_a_success_stands_with_its_effect(self, alias, once, effects) -> None:
        """A message that comes again finds it done."""
        write, row = once()

        assert [run(write, row) for _ in range(20)] == ["succeeded"] + ["skipped"] * 19
        assert effects() == 1
        assert Attempt.objects.using(alias).get().outcome == "succeeded"

    def test_a_failure_leaves_no_effect(self, alias, once, effects) -> None:
        """What was written before the error is rolled back; the failure is recorded."""
        faults = [OSError("after the effect")]

        def fail():
            if faults:
                raise faults.pop()

        write, row = once(fail)

        assert run(write, row) == "retrying"
        assert effects() == 0
        assert Attempt.objects.using(alias).get().outcome == "raised"
        assert relay_once(alias) == 1
        assert run(write, row, epoch=1) == "succeeded"
        assert effects() == 1

    def test_a_crash_between_effect_and_record(self, once, effects, monkeypatch) -> None:
        """Where the record cannot be written, the effect does not stay."""
        write, row = once()
        succeeded = robust.records.succeeded

        def crash(*args):
            succeeded(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(robust.records, "succeeded", crash)
        with pytest.raises(KeyboardInterrupt):
            run(write, row)
        assert effects() == 0

    def test_a_stolen_lease(self, alias, once, effects) -> None:
        """A worker that was taken for dead loses its effect, and the other one's stays."""
        steals = [True]

        def steal():
            if not steals:
                return
            steals.clear()
            thread = threading.Thread(target=give_away)
            thread.start()
            thread.join()

        def give_away():
            Delivery.objects.using(alias).update(epoch=5, state="pending", due_at=Now())
            connections.close_all()

        if alias == "default":  # SQLite has one writer: the thief waits for the receiver's end.
            pytest.skip("nobody can write to SQLite while the receiver's transaction does")
        write, row = once(steal)

        assert run(write, row) == "skipped"
        assert effects() == 0
        assert run(write, row, epoch=5) == "succeeded"
        assert effects() == 1

    def test_a_claim_taken_away_in_the_same_connection(self, alias, once, effects) -> None:
        """The fence is in the update of the success: no row, no effect."""

        def take():
            Delivery.objects.using(alias).update(epoch=7)

        write, row = once(take)

        assert run(write, row) == "skipped"
        assert effects() == 0

    def test_an_effect_that_the_commit_refuses(self, alias, once, effects) -> None:
        """A block that is marked for rollback is a failed attempt, not a silent success."""
        write, row = once(lambda: transaction.set_rollback(True, using=alias))

        assert run(write, row) == "retrying"
        assert effects() == 0

    @pytest.mark.parametrize("exc", [OSError, SystemExit, asyncio.CancelledError])
    def test_a_callback_that_fails_after_the_commit(self, alias, once, effects, exc) -> None:
        """What is committed stays a success, and the worker's process goes on; it is logged."""

        def explode():
            raise exc("after the commit")

        write, row = once(lambda: transaction.on_commit(explode, using=alias))

        assert run(write, row) == "succeeded"
        assert effects() == 1
        assert [row.state for row in rows(alias)] == ["succeeded"]

    def test_a_callback_that_names_a_secret(self, alias, receiver, caplog) -> None:
        """The log masks the arguments of the receiver and the variables of the callback."""
        secrets = ["planted-argument-1f7c", "planted-note-8e2b", "planted-variable-4d9a"]

        def receive(note, account, **kwargs):
            def explode():
                token = secrets[2]
                raise OSError(f"cannot use {note} {account['api_key']} {token} of order 7")

            transaction.on_commit(explode, using=alias)

        receiver(receive, effect="once", sensitive=["note"])
        with transaction.atomic(using=alias):
            done.send(None, using=alias, note=secrets[1], account={"api_key": secrets[0]})
        [row] = rows(alias)

        assert run(receive, row) == "succeeded"
        assert not [secret for secret in secrets if secret in caplog.text]
        assert f"A callback failed after the commit of {row.pk}." in caplog.text
        assert "OSError: cannot use •••• •••• •••• of order 7" in caplog.text
        assert "in explode" in caplog.text

    def test_what_it_sends_is_committed_with_it(self, alias, once, receiver, effects) -> None:
        """Durable events of the receiver live and die with its effect."""
        follow, faults = Signal(), [OSError("later")]

        def send_and_fail():
            follow.send(None, using=alias, n=2)
            if faults:
                raise faults.pop()

        write, row = once(send_and_fail)
        calls = []

        def followed(n, **kwargs):
            calls.append(n)

        connect(follow, followed, name=f"tests.durable.{new_id()}", durable=True)

        assert run(write, row) == "retrying"
        assert len(rows(alias)) == 1
        assert relay_once(alias) == 1
        assert run(write, row, epoch=1) == "succeeded"
        assert len(rows(alias)) == 2
