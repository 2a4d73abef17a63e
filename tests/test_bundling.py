"""A large transaction leaves one row for many deliveries; a worker puts these in its place."""

from __future__ import annotations

import json
import threading

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models.functions import Now
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from async_signals import EnvelopeError, Retry, operations, relay, robust, testing
from async_signals.ids import new_id
from async_signals.models import Attempt, Delivery, Event, OperationItem
from async_signals.sending import bundling, dispatch
from async_signals.signals import delivery_published
from async_signals.stats import Filter
from async_signals.wire.envelope import BETWEEN, Reference, load, pack
from tests.testproject import brokers

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done, cancelled = Signal(), Signal()
MANY = bundling.FEW + 1
CLOSED = 9  # A port that nobody listens on.


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture
def receiver(connect, alias):
    """Connect a durable receiver; it notes what it was called with."""

    def make(signal=done, **options):
        def receive(n, **kwargs):
            receive.calls.append(n)

        receive.calls = []
        receive.receiver_name = name = f"tests.bundling.{new_id()}"
        given = {"name": name, "durable": True, "retry": Retry(initial_delay=0)}
        connect(signal, receive, **(given | options))
        return receive

    return make


@pytest.fixture
def receive(receiver):
    return receiver()


@pytest.fixture
def published(monkeypatch):
    """What leaves this process, by whichever door; nothing reaches a broker."""
    messages = []

    def publish(batch):
        messages.extend(batch)
        return []

    monkeypatch.setattr("async_signals.sending.outbox.publisher.publish", publish)
    monkeypatch.setattr(relay, "publish", publish)
    return messages


def send(alias, *numbers, signal=done) -> None:
    with transaction.atomic(using=alias):
        for n in numbers:
            signal.send(None, using=alias, n=n)


def rows(alias) -> list[Delivery]:
    return list(Delivery.objects.using(alias).order_by("pk"))


def sizes(alias) -> list[int]:
    return [row.size for row in rows(alias)]


def numbers(alias) -> list[int]:
    return [load(row.envelope).kwargs["n"] for row in rows(alias)]


def run(function, row, epoch=0) -> str:
    """Let a worker have the message of *row*."""
    [result] = run_message(function, [row], epoch)
    if result.unpacked is not None:
        relay.Relay().publish(*result.unpacked)
    return result.state


def run_message(function, some, epoch=0):
    name = function.receiver_name
    references = [
        Reference(id=str(row.pk), receiver=name, epoch=epoch, using=row._state.db) for row in some
    ]
    return robust.run(pack(references), name=name, worker="w@test/1")


def relay_once(alias) -> int:
    """Make everything on *alias* due, and return how much a relay publishes."""
    Delivery.objects.using(alias).exclude(due_at=None).update(due_at=Now())
    return relay.run(threading.Event(), once=True)


class TestSending:
    def test_one_row_and_one_message(self, alias, receive, published) -> None:
        """More than a hundred for one receiver: one row stands for all, and one message for it."""
        send(alias, *range(MANY))

        [row] = rows(alias)
        assert (row.size, row.state, row.receiver) == (MANY, "published", receive.receiver_name)
        assert [load(text).kwargs["n"] for text in row.envelope.split(BETWEEN)] == [*range(MANY)]
        [message] = published
        assert [each.id for each in message.deliveries] == [str(row.pk)]
        assert Event.objects.using(alias).count() == 1

    def test_a_hundred_have_a_row_each(self, alias, receive, published) -> None:
        """What people may want to see at once is there at once."""
        send(alias, *range(bundling.FEW))

        assert sizes(alias) == [1] * bundling.FEW

    def test_two_statements(self, alias, receive, published) -> None:
        """For any number of events in the transaction, right before its commit."""
        send(alias, 0)
        for many in (MANY, 3 * MANY):
            with CaptureQueriesContext(connections[alias]) as queries:
                send(alias, *range(many))
            words = [query["sql"].split()[0] for query in queries]
            assert words.count("INSERT") == 2
            assert not {"UPDATE", "SELECT"} & set(words)

    def test_a_thousand_in_each_and_half_a_megabyte(
        self, alias, receive, published, monkeypatch
    ) -> None:
        """One worker unpacks one, in one transaction: rows and characters are bounded."""
        monkeypatch.setattr(bundling, "MOST", 150)
        send(alias, *range(MANY + 100))
        assert sizes(alias) == [150, 51]
        assert len(published) == 2

        Delivery.objects.using(alias).all().delete()
        monkeypatch.setattr(bundling, "MOST_TEXT", 30_000)
        with transaction.atomic(using=alias):
            for n in range(MANY):
                done.send(None, using=alias, n=n, text="x" * 1000)
        assert sum(sizes(alias)) == MANY
        assert 4 <= len(sizes(alias)) <= 6

    def test_what_was_rolled_back_is_in_no_bundle(self, alias, receive, published) -> None:
        """Neither with the whole transaction nor with a savepoint."""
        with pytest.raises(Undo), transaction.atomic(using=alias):
            send(alias, *range(MANY))
            raise Undo
        assert rows(alias) == []

        with transaction.atomic(using=alias):
            send(alias, *range(MANY))
            with pytest.raises(Undo), transaction.atomic(using=alias):
                send(alias, *range(1000, 1000 + MANY))
                raise Undo
            send(alias, 7)
        [row] = rows(alias)
        sent = [load(text).kwargs["n"] for text in row.envelope.split(BETWEEN)]
        assert sent == [*range(MANY), 7]

    def test_each_receiver_and_signal_has_its_own(self, alias, receiver, published) -> None:
        """What a list can be filtered by holds for all that a row stands for."""
        first = receiver(signal=[done, cancelled])
        second = receiver()
        with transaction.atomic(using=alias):
            send(alias, *range(MANY))
            send(alias, *range(MANY + 5), signal=cancelled)
            send(alias, *range(3), signal=cancelled)

        found = {(row.receiver, row.signal): row.size for row in rows(alias)}
        assert found == {
            (first.receiver_name, "tests.test_bundling.done"): MANY,
            (first.receiver_name, "tests.test_bundling.cancelled"): MANY + 8,
            (second.receiver_name, "tests.test_bundling.done"): MANY,
        }

    @pytest.mark.parametrize("options", [{"order_by": lambda sender, n, **_: n}, {"countdown": 60}])
    def test_what_is_not_for_a_worker_yet(self, alias, receiver, published, options) -> None:
        """What waits for its turn, or for a time, waits in a row of its own."""
        receiver(**options)
        send(alias, *range(MANY))

        assert sizes(alias) == [1] * MANY

    def test_in_tests_of_a_site(self, alias, receive) -> None:
        """``run_inline()`` runs each, and what it leaves are the rows of deliveries."""
        with testing.run_inline():
            send(alias, *range(MANY))

        assert receive.calls == [*range(MANY)]
        assert sizes(alias) == [1] * MANY

    def test_a_broker_that_is_down(self, alias, receive, settings) -> None:
        """It waits as any delivery does, and a relay publishes it when the broker is back."""
        broker = brokers.redis_broker(CLOSED, name="closed")
        broker.make_app()
        settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path, "PUBLISH_TIMEOUT": 0.5}
        send(alias, *range(MANY))
        [row] = rows(alias)
        assert (row.state, row.publishes) == ("pending", 0)

        settings.ASYNC_SIGNALS = {}
        assert relay_once(alias) == 1

    def test_a_sender_that_dies_before_the_publish(
        self, alias, receive, published, monkeypatch
    ) -> None:
        """A relay publishes the bundle when its time has come."""
        with monkeypatch.context() as patch:
            patch.setattr(dispatch, "publish", lambda messages: [])
            send(alias, *range(MANY))
        assert published == []

        assert relay_once(alias) == 1
        assert run(receive, *rows(alias)) == "unpacked"


class TestUnpacking:
    def test_the_deliveries_take_its_place(self, alias, receive, published) -> None:
        """As if each had been stored by itself: with event, payload and time, in their order."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        published.clear()

        assert run(receive, bundle) == "unpacked"
        assert numbers(alias) == [*range(MANY)]
        assert {(row.state, row.epoch, row.size) for row in rows(alias)} == {("published", 0, 1)}
        assert Event.objects.using(alias).count() == MANY
        assert json.loads(rows(alias)[3].payload) == {"sender": None, "using": alias, "n": 3}
        sent = [each.id for message in published for each in message.deliveries]
        assert sent == [str(row.pk) for row in rows(alias)]
        assert receive.calls == []

        assert [run(receive, row) for row in rows(alias)] == ["succeeded"] * MANY
        assert receive.calls == [*range(MANY)]

    def test_its_message_comes_again(self, alias, receive, published) -> None:
        """Who comes second finds nothing to do."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)

        assert [run(receive, bundle) for _ in range(3)] == ["unpacked", "skipped", "skipped"]
        assert len(rows(alias)) == MANY

    def test_a_claim_that_was_taken_away(self, alias, receive, published, monkeypatch) -> None:
        """A worker that was too slow unpacks nothing."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        unpacked = robust.bundles.unpacked

        def too_late(claimed):
            Delivery.objects.using(alias).update(state="pending", epoch=9)
            return unpacked(claimed)

        monkeypatch.setattr(robust.bundles, "unpacked", too_late)
        assert run(receive, bundle) == "skipped"
        assert sizes(alias) == [MANY]

    def test_a_worker_that_dies_before_the_publish(self, alias, receive, published) -> None:
        """What it has unpacked is published by a relay when its time has come."""
        send(alias, *range(MANY))
        published.clear()
        [result] = run_message(receive, rows(alias))
        assert (result.state, published) == ("unpacked", [])

        assert relay_once(alias) == MANY

    def test_a_worker_that_dies_over_it(self, alias, receive, published) -> None:
        """Its lease ends, the next one unpacks it, and of the death nothing stays behind."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        robust.claims.claim_stored(
            Reference(id=str(bundle.pk), receiver=bundle.receiver, epoch=0, using=alias),
            worker="gone@test/1",
        )
        assert relay_once(alias) == 0
        assert Attempt.objects.using(alias).get().outcome == "died"

        assert relay_once(alias) == 1
        assert run(receive, bundle, epoch=1) == "unpacked"
        assert sizes(alias) == [1] * MANY
        assert not Attempt.objects.using(alias).exists()

    def test_what_cannot_be_read_waits_for_a_person(self, alias, receive, published) -> None:
        """Of a release to come: failed as a whole, and unpacked when it is retried."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        newer = bundle.envelope.replace('"v":1', '"v":99', 1)
        Delivery.objects.using(alias).update(envelope=newer)
        with pytest.raises(EnvelopeError):
            run(receive, bundle)
        [row] = rows(alias)
        assert (row.state, row.size, row.envelope) == ("failed", MANY, newer)

        Delivery.objects.using(alias).update(envelope=bundle.envelope)
        operations.retry(Filter(state="failed"), by="test", using=alias)
        [row] = rows(alias)
        assert run(receive, row, epoch=row.epoch) == "unpacked"
        assert numbers(alias) == [*range(MANY)]

    def test_a_secret_is_masked_in_what_people_see(self, alias, receive, published) -> None:
        """Nothing of a bundle is shown; what is unpacked is masked as ever."""
        with transaction.atomic(using=alias):
            for n in range(MANY):
                done.send(None, using=alias, n=n, password=f"hunter{n}")
        [bundle] = rows(alias)
        assert bundle.payload == ""

        run(receive, bundle)
        assert not [row for row in rows(alias) if "hunter" in row.payload]
        assert {load(row.envelope).kwargs["password"] for row in rows(alias)} == {
            f"hunter{n}" for n in range(MANY)
        }

    def test_two_receivers_of_the_same_events(self, alias, receiver, published) -> None:
        """They share the rows of the events, whoever is unpacked first."""
        both = [receiver(), receiver()]
        send(alias, *range(MANY))
        bundles = {row.receiver: row for row in rows(alias)}
        for each in both:
            assert run(each, bundles[each.receiver_name]) == "unpacked"

        assert len(rows(alias)) == 2 * MANY
        assert Event.objects.using(alias).count() == MANY

    def test_each_delivery_is_announced(self, alias, receive, published) -> None:
        """``delivery_published`` tells of each when it is, and of no bundle."""
        told = []

        def hear(sender, delivery, **kwargs):
            told.append(delivery.id)

        delivery_published.connect(hear)
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        assert told == []
        assert relay_once(alias) == 1  # Nor where a relay publishes it again.
        assert told == []

        run(receive, bundle)
        assert told == [str(row.pk) for row in rows(alias)]


class TestPeople:
    def test_a_bundle_is_not_replayed(self, alias, receive, published) -> None:
        """What was discarded as a whole comes back as a whole, by a retry."""
        send(alias, *range(MANY))
        Delivery.objects.using(alias).update(due_at=Now())
        operations.discard(Filter(state="published"), by="test", reason="no", using=alias)
        assert rows(alias)[0].state == "discarded"

        replayed = operations.replay(Filter(), by="test", using=alias)
        assert (replayed.changed, replayed.unchanged) == (0, 1)
        item = OperationItem.objects.using(alias).get(operation=replayed.pk)
        assert "stands for 101 deliveries" in item.outcome
        operations.retry(Filter(state="discarded"), by="test", using=alias)
        [row] = rows(alias)
        assert run(receive, row, epoch=row.epoch) == "unpacked"

    def test_the_command_says_what_it_stands_for(self, alias, receive, published, capsys) -> None:
        """In a list, on the page of one, and in their documents."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        for verb in ("list", f"show {bundle.pk}"):
            call_command("async_signals", *verb.split(), "--database", alias)
            assert "101 " in capsys.readouterr().out
        call_command("async_signals", "list", "--json", "--database", alias)
        assert json.loads(capsys.readouterr().out)["deliveries"][0]["size"] == MANY
