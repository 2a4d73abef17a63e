"""From ``send()`` in this process to the receiver in a worker process, and what may go wrong."""

from __future__ import annotations

import json
import os
import uuid

import pytest
from django.db import transaction

from async_signals import connect
from async_signals.publisher import celery_app
from tests.conftest import require
from tests.faults.waiting import wait_until
from tests.testapp import receivers, signals
from tests.testapp.models import Label, Story

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("worker", "publishing"),
]

APP = "tests.testapp.receivers"


@pytest.fixture
def number() -> str:
    """Tells the deliveries of one test from those of all others."""
    return uuid.uuid4().hex


class TestDelivery:
    def test_a_receiver_runs_in_the_worker(self, reports, number) -> None:
        """Another process runs the receiver; the delivery's id and time come along."""
        signals.reported.send(sender=None, number=number)

        [got] = reports.wait(receiver="plain", number=number)
        assert got["pid"] != os.getpid()
        assert got["attempt"] == 1
        assert len(got["delivery"]) == 36

    def test_an_async_def_receiver_is_awaited_in_the_worker(self, reports, number) -> None:
        """``async def`` receivers run to their end in the worker."""
        signals.reported.send(sender=None, number=number)

        [got] = reports.wait(receiver="awaited", number=number)
        assert got["pid"] != os.getpid()

    @pytest.mark.parametrize("alias", ["default", "other", "postgresql", "mariadb"])
    def test_an_instance_comes_from_its_own_database(self, alias, reports, number) -> None:
        """The worker fetches the row from the alias that it was saved to, after the commit."""
        if alias not in ("default", "other"):
            require(alias)
        with transaction.atomic(using=alias):
            story = Story(title=f"first {number}")
            story.save(using=alias)
            Story.objects.using(alias).filter(pk=story.pk).update(title=number)

        [got] = reports.wait(receiver="story_saved", title=number)
        assert got == {
            "receiver": "story_saved",
            "sender": "testapp.Story",
            "title": number,
            "alias": alias,
            "using": alias,
            "created": True,
        }

    def test_a_deleted_instance_arrives_as_it_was(self, reports, number) -> None:
        """post_delete: the fields and the key that the row had."""
        story = Story.objects.create(title=number)
        pk = story.pk
        story.delete()

        [got] = reports.wait(receiver="story_deleted", title=number)
        assert (got["pk"], got["alias"]) == (pk, "default")

    def test_m2m_changed_arrives_whole(self, reports, number) -> None:
        """The set of keys and the model on the other side."""
        story = Story.objects.create(title=number)
        label = Label.objects.create(name="t")
        story.labels.add(label)

        [got] = reports.wait(receiver="labels_changed", title=number, action="post_add")
        assert (got["pk_set"], got["model"]) == ([label.pk], "testapp.Label")

    def test_a_rollback_sends_nothing(self, reports, number) -> None:
        """What was rolled back never arrives, what follows it does."""
        with pytest.raises(RuntimeError), transaction.atomic():
            signals.reported.send(sender=None, number=f"undone {number}")
            raise RuntimeError
        signals.reported.send(sender=None, number=number)

        reports.wait(receiver="plain", number=number)
        with pytest.raises(AssertionError, match="expected 1 reports"):
            reports.wait(receiver="plain", number=f"undone {number}", timeout=0.2)

    def test_two_hundred_of_one_transaction_all_arrive(self, reports, number) -> None:
        """One transaction, one batch, every delivery once."""
        with transaction.atomic():
            for n in range(200):
                signals.many.send(sender=None, batch=number, number=n)

        got = reports.wait(200, receiver="many", batch=number)
        assert sorted(report["number"] for report in got) == list(range(200))


class TestNames:
    def registered(self, publishing, *about: str) -> list[str]:
        """Ask our worker until it answers: on a busy machine that may take longer than once."""

        def ask() -> list[list[str]]:
            replies = celery_app().control.inspect(timeout=2).registered(*about) or {}
            return [tasks for node, tasks in replies.items() if publishing.queue in node]

        [registered] = wait_until(ask, what="an answer of the worker")
        return registered

    def test_inspect_registered_shows_each_receiver(self, publishing) -> None:
        """``celery inspect registered`` names receivers as their modules do."""
        registered = self.registered(publishing)
        assert {f"{APP}.plain", f"{APP}.awaited", f"{APP}.story_saved"} <= set(registered)

    def test_the_rate_limit_is_the_workers(self, publishing) -> None:
        """``rate_limit=`` is the task's own."""
        assert f"{APP}.limited [rate_limit=100/s]" in self.registered(publishing, "rate_limit")

    def test_a_rate_limited_receiver_is_slowed_and_not_lost(self, reports, number) -> None:
        """Deliveries above the limit wait in the worker for their turn."""
        for n in range(5):
            signals.limited.send(sender=None, number=f"{number} {n}")

        for n in range(5):
            reports.wait(receiver="limited", number=f"{number} {n}")

    def test_the_workers_log_names_the_receiver(self, worker, reports, number) -> None:
        """The log has the receiver's name and the delivery's id, and none of its data."""
        signals.reported.send(sender=None, number=number)

        [got] = reports.wait(receiver="plain", number=number)
        worker.wait_for_line(f"Task {APP}.plain[{got['delivery']}] received")
        worker.wait_for_line(f"Task {APP}.plain[{got['delivery']}] succeeded")
        assert number not in worker.output

    def test_task_events_carry_the_name_and_no_data(self, number) -> None:
        """Flower and exporters see the receiver's name; arguments stay out of events."""
        app = celery_app()
        events = []

        def on_event(event) -> None:
            if not events:  # A heartbeat: from now on this process hears what happens.
                signals.reported.send(sender=None, number=number)
            events.append(event)
            if event["type"] == "task-received" and event["name"] == f"{APP}.plain":
                receiver.should_stop = True

        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": on_event})
            receiver.capture(limit=None, timeout=20, wakeup=False)

        assert receiver.should_stop, f"no task-received among {events}"
        assert number not in repr(events)

    def test_receivers_can_be_routed_by_name(self, publishing) -> None:
        """``task_routes`` sends a receiver's deliveries to the queue that it says."""
        app = celery_app()
        queue = f"{publishing.queue}-routed"
        app.conf.task_routes = {f"{APP}.broken": {"queue": queue}}
        app.amqp.flush_routes()
        app.amqp.router = app.amqp.Router()
        try:
            signals.broken.send(sender=None, number=1)
            with app.connection_for_read() as connection:
                bound = app.amqp.queues[queue](connection.default_channel)
                message = bound.get(no_ack=True)
                assert message.headers["task"] == f"{APP}.broken"
                assert message.headers["argsrepr"] == "<envelope>"
                bound.delete()
        finally:
            app.conf.task_routes = None
            app.amqp.flush_routes()
            app.amqp.router = app.amqp.Router()


class TestMissing:
    """A row that is created and deleted in one transaction is gone when the worker looks."""

    @pytest.fixture
    def gone(self, number) -> str:
        with transaction.atomic():
            label = Label.objects.create(name=number)
            Label.objects.filter(pk=label.pk).delete()
        return number

    def test_snapshot_runs_with_the_fields_as_sent(self, gone, reports) -> None:
        """``missing="snapshot"``: the receiver gets the instance as it was at send."""
        reports.wait(receiver="missing_snapshot", name=gone)

    def test_skip_and_fail_do_not_run(self, gone, reports, worker) -> None:
        """``"skip"`` says so in the log and succeeds, ``"fail"`` fails with the cure."""
        reports.wait(receiver="missing_snapshot", name=gone)
        worker.wait_for_line(f"of {APP}.missing_skip: a row of testapp.label is gone")
        worker.wait_for_line("Say what to do with @async_receiver(..., missing=...)")
        for receiver in ("missing_skip", "missing_fail"):
            with pytest.raises(AssertionError, match="expected 1 reports"):
                reports.wait(receiver=receiver, name=gone, timeout=0.1)

    def test_retry_runs_once_the_row_is_there(self, number, reports, worker) -> None:
        """``"retry"``: the row appears later, as on a replica that lags, and it is found."""
        with transaction.atomic():
            label = Label.objects.create(name=number)
            Label.objects.filter(pk=label.pk).delete()
        worker.wait_for_line(
            f'Retry in 1s: MissingInstanceError("cannot fetch testapp.label with pk {label.pk} '
        )
        Label.objects.bulk_create([Label(pk=label.pk, name=number)])

        [got] = reports.wait(receiver="missing_retry", name=number)
        assert got["attempt"] > 1


class TestBadMessages:
    """What a queue may hold besides our messages: logged with the cure, and the worker goes on."""

    def goes_on(self, reports, number) -> None:
        signals.reported.send(sender=None, number=number)
        reports.wait(receiver="plain", number=number)

    def send_raw(self, name: str, *args, **kwargs) -> None:
        celery_app().send_task(name, args, kwargs, ignore_result=True)

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ((), {"instance": 1}, "expected one argument, a signed text, got: 0"),
            ((1, 2), {}, "expected one argument, a signed text, got: 2"),
            (([{"v": 1}],), {}, "expected a signed text, got: list"),
            (("nonsense",), {}, "cannot trust the message: expected a signature made with"),
            (('forged:{"v":1}',), {}, "cannot trust the message: expected a signature made with"),
        ],
    )
    def test_a_foreign_message(self, args, kwargs, message, worker, reports, number) -> None:
        """A call of the task by hand, or by somebody else, runs no receiver."""
        before = worker.position
        self.send_raw(f"{APP}.plain", *args, **kwargs)

        worker.wait_for_line(message, after=before)
        self.goes_on(reports, number)

    def test_an_unknown_receiver(self, worker, reports, number) -> None:
        """A receiver that only the sender knows: the worker says what to do."""

        def only_here(**kwargs) -> None: ...

        connect(signals.closed, only_here, name=f"only.here.{number}")
        signals.closed.send(sender=None)

        line = worker.wait_for_line(f"cannot run only.here.{number}")
        assert "Lost delivery" in line
        assert "Import its module in AppConfig.ready(), deploy workers before senders" in line
        self.goes_on(reports, number)
        signals.closed.disconnect(only_here)

    @pytest.mark.parametrize("robust", [True, False])
    def test_an_unknown_receiver_is_reported_without_data(
        self, worker, reports, number, robust
    ) -> None:
        """Celery's own report of a task that it does not know has no argument of ours in it."""

        def only_here(**kwargs) -> None: ...

        secret, name = f"planted-{number}", f"only.here.{number}"
        connect(signals.closed, only_here, name=name, robust=robust)
        signals.closed.send(sender=None, password=secret)

        worker.wait_for_line(f"Received unregistered task of type '{name}'")
        worker.wait_for_line("'<envelope>'")
        kept = worker.wait_for_line(f"cannot run {name}")
        assert ("Kept delivery" if robust else "Lost delivery") in kept
        self.goes_on(reports, number)
        assert secret not in worker.output
        signals.closed.disconnect(only_here)

    @pytest.mark.parametrize("header", ["async_signals", "of.somebody.else"])
    @pytest.mark.parametrize(
        ("headers", "how", "report"),
        [
            ({}, {}, "Received and deleted unknown message"),
            ({"task": f"{APP}.plain"}, {"content_type": "x/y"}, "Received invalid task message"),
            ({"task": f"{APP}.plain"}, {"broken": "{"}, "Can't decode message body"),
        ],
    )
    def test_unreadable_messages_are_reported_without_data(
        self, headers, how, report, header, worker, broker, reports, number
    ) -> None:
        """Of ours no report of Celery has the body; those of others are left as they are."""
        before, secret = worker.position, f"planted-{number}"
        with celery_app().producer_pool.acquire() as producer:
            producer.publish(
                how.get("broken", "") + json.dumps([[secret], {}, {}]),
                routing_key=broker.queue,
                headers={"id": number, header: "plain", **headers},
                content_type=how.get("content_type", "application/json"),
                content_encoding="utf-8",
            )

        worker.wait_for_line(report, after=before)
        self.goes_on(reports, number)
        assert (secret in worker.output) is (header != "async_signals")

    def test_a_receiver_that_raises(self, worker, reports, number) -> None:
        """Its error is Celery's to report, under its name; the worker goes on."""
        signals.broken.send(sender=None, number=number)

        worker.wait_for_line(f"LookupError('broken {number}')")
        self.goes_on(reports, number)


def test_the_sender_knows_its_receivers() -> None:
    """A guard: the tests above would prove nothing without these connections."""
    assert signals.reported.has_listeners()
    assert callable(receivers.plain)
