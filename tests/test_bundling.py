"""A large transaction leaves one row for many deliveries; a worker puts these in its place."""

from __future__ import annotations

import datetime as dt
import gc
import json
import logging
import sys
import threading
from collections import Counter

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from async_signals import EnvelopeError, Retry, operations, relay, robust, testing
from async_signals import delivery as user
from async_signals.delivery import running
from async_signals.ids import new_id
from async_signals.ledger import bundles
from async_signals.models import Attempt, Delivery, Event, OperationItem
from async_signals.sending import bundling, outlet
from async_signals.signals import delivery_discarded, delivery_published
from async_signals.stats import Filter
from async_signals.wire import encryption, envelope
from async_signals.wire.envelope import Reference, dump, load, pack, unbundled
from tests.testapp.models import Article, Coin, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done, cancelled = Signal(), Signal()
MANY = bundling.FEW + 1


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


def bundled_numbers(row) -> list[int]:
    return [each.kwargs["n"] for each in unbundled(row.envelope, row.size)]


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
    return relay.run(threading.Event(), once=True).published


class TestSending:
    def test_one_row_and_one_message(self, alias, receive, published) -> None:
        """More than a hundred for one receiver: one row stands for all, and one message for it."""
        send(alias, *range(MANY))

        [row] = rows(alias)
        assert (row.size, row.state, row.receiver) == (MANY, "published", receive.receiver_name)
        assert bundled_numbers(row) == [*range(MANY)]
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
        assert sizes(alias) == [101, 100]  # A hundred at a time are written together.
        assert len(published) == 2

        Delivery.objects.using(alias).all().delete()
        monkeypatch.setattr(bundling, "MOST_TEXT", 30_000)
        with transaction.atomic(using=alias):
            for n in range(MANY):
                done.send(None, using=alias, n=n, text="x" * 1000)
        assert sum(sizes(alias)) == MANY
        assert 4 <= len(sizes(alias)) <= 6

    def test_half_a_megabyte_whatever_a_message_may_have(
        self, alias, receive, published, settings
    ) -> None:
        """A site that lets messages be large has no larger statements: servers refuse those."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 20_000_000}
        with transaction.atomic(using=alias):
            for n in range(2 * MANY):
                done.send(None, using=alias, n=n, text="x" * 20_000)
        assert sum(sizes(alias)) == 2 * MANY
        assert max(len(row.envelope) for row in rows(alias)) <= bundling.MOST_TEXT + 100

    @pytest.mark.parametrize(
        ("sender", "named"),
        [
            (None, {f"text_{n}": str(n) * 100 for n in range(10, 35)}),
            (None, {"x" * 60 + str(n): n for n in range(25)}),
            (None, {"\xe9" * 20 + str(n): n for n in range(25)}),
            (None, {f"n{n}": n for n in range(150)}),
            ("s" * 3000, {}),
        ],
        ids=["texts", "names", "names that JSON makes longer", "many", "sender"],
    )
    def test_half_a_megabyte_also_when_it_is_unpacked(
        self, alias, receive, published, sender, named
    ) -> None:
        """What is the same in all of them is written once, and counted for each."""
        with transaction.atomic(using=alias):
            for n in range(5 * MANY):
                done.send(sender, using=alias, n=n, **(named if n > 1 else {}))

        for row in rows(alias):
            unpacked = [len(dump(each)) for each in unbundled(row.envelope, row.size)]
            assert sum(unpacked) < 1.1 * bundling.MOST_TEXT
        assert sum(sizes(alias)) == 5 * MANY

    def test_none_is_larger_than_a_message_may_be(
        self, alias, receive, published, settings
    ) -> None:
        """Not in a bundle either, in which it is shorter."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        refused = []
        for size in range(500, 800, 25):
            Delivery.objects.using(alias).all().delete()
            with transaction.atomic(using=alias):
                for n in range(MANY):
                    done.send(None, using=alias, n=n, text=f"{n:03}" + "x" * size)
            whole = [row for row in rows(alias) if row.state == "published"]
            sent = [each for row in whole for each in unbundled(row.envelope, row.size)]
            with_ids = [each._replace(id=str(new_id())) for each in sent]
            assert all(len(pack([each])) <= 1000 for each in with_ids)
            refused.append(len(sent) < MANY)
        assert refused[0] is False
        assert refused[-1] is True

    def test_senders_that_are_equal_and_not_the_same(self, alias, receive, published) -> None:
        """Each delivery keeps its own: 1 is not True, whatever Python says."""
        senders = [1, True, 1.0]
        with transaction.atomic(using=alias):
            for n in range(3 * MANY):
                done.send(senders[n % 3], using=alias, n=n)

        [row] = rows(alias)
        stored = [each.sender for each in unbundled(row.envelope, row.size)]
        assert [*map(repr, stored)] == [*map(repr, senders * MANY)]

    def test_they_keep_their_order(self, alias, receive, published) -> None:
        """Whatever they are sent with, and in whatever order that is named."""
        with transaction.atomic(using=alias):
            for n in range(2 * MANY):
                named = {"n": n, "using": alias} if n % 2 else {"using": alias, "n": n}
                done.send(None, **named, **({"more": n} if n % 3 else {}))

        [row] = rows(alias)
        assert bundled_numbers(row) == [*range(2 * MANY)]

    def test_each_event_is_its_own(self, alias, receiver, published) -> None:
        """Also where two bundles begin with the same one: its receivers have others, too."""
        first = receiver(signal=post_save, sender=[Tag, Article])
        second = receiver(signal=post_save, sender=[Tag, Coin])
        functions = {each.receiver_name: each for each in (first, second)}
        with transaction.atomic(using=alias):
            for sender, number in ((Tag, 1), (Article, 150), (Coin, 150)):
                for n in range(number):
                    post_save.send(sender, using=alias, n=n)
        for row in rows(alias):
            assert run(functions[row.receiver], row) == "unpacked"

        found = Delivery.objects.using(alias).select_related("event")
        assert Counter((functions[row.receiver], row.event.sender) for row in found) == {
            (first, "testapp.tag"): 1,
            (second, "testapp.tag"): 1,
            (first, "testapp.article"): 150,
            (second, "testapp.coin"): 150,
        }
        assert Event.objects.using(alias).count() == 301

    def test_those_with_an_order_do_not_count(self, alias, receiver, published) -> None:
        """Beside them, few stay few, and are stored each by itself."""
        receiver(order_by=lambda sender, n, **kwargs: n if n % 10 else None)
        send(alias, *range(310))

        assert sizes(alias) == [1] * 310

    def test_one_that_is_left_over_is_no_bundle(
        self, alias, receive, published, monkeypatch
    ) -> None:
        """It is a delivery as any other, and a worker runs it."""
        monkeypatch.setattr(bundling, "MOST", MANY - 1)
        send(alias, *range(MANY))
        bundle, left = sorted(rows(alias), key=lambda row: -row.size)
        assert (bundle.size, left.size) == (MANY - 1, 1)
        assert str(left.pk) == load(left.envelope).id

        assert run(receive, left) == "succeeded"
        assert receive.calls == [MANY - 1]

    def test_a_receiver_with_little_time_unpacks_nothing(self, alias, receiver, published) -> None:
        """Its limits are meant for one delivery."""
        receiver(soft_time_limit=1)
        receiver(time_limit=3600)
        send(alias, *range(MANY))

        assert sorted(sizes(alias)) == [1] * MANY + [MANY]

    def test_a_bundle_travels_alone(self, alias, receive, published, monkeypatch) -> None:
        """However many there are: what is in it need not wait for the next one."""
        monkeypatch.setattr(bundling, "FEW", 1)
        monkeypatch.setattr(bundling, "MOST", 2)
        send(alias, *range(240))
        assert [len(message.deliveries) for message in published] == [1] * 120
        published.clear()

        assert relay_once(alias) == 120
        assert [len(message.deliveries) for message in published] == [1] * 120

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
        sent = bundled_numbers(row)
        assert sent == [*range(MANY), 7]

    @pytest.mark.parametrize("place", [0, MANY // 2, MANY])
    def test_what_is_too_large_is_recorded(
        self, alias, receive, published, settings, place
    ) -> None:
        """As failed, by itself, wherever it stands; the others are a bundle."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        with transaction.atomic(using=alias):
            for n in range(3 * MANY):
                if n == place:
                    done.send(None, using=alias, n=-1, text="x" * 2000)
                done.send(None, using=alias, n=n)
            # Who records the same failure need not wait for this transaction.
            assert rows(alias) == []

        left = {row.state: row for row in rows(alias)}
        assert "'text'" in left["failed"].reason
        sent = bundled_numbers(left["published"])
        assert sent == [*range(3 * MANY)]

    def test_a_log_that_sends(self, alias, receive, published, settings) -> None:
        """A handler of the log may send an event itself, when it is told of one that cannot be."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}

        class Audit(logging.Handler):
            def emit(self, record):
                done.send(None, using=alias, n=-2)

        audit, logger = Audit(logging.ERROR), logging.getLogger("async_signals")
        logger.addHandler(audit)
        try:
            with transaction.atomic(using=alias):
                done.send(None, using=alias, n=-1, text="x" * 2000)
                send(alias, *range(MANY))
        finally:
            logger.removeHandler(audit)
        kept = {row.state: row for row in rows(alias) if row.size > 1 or row.state == "failed"}
        sent = bundled_numbers(kept["published"])
        assert sent == [*range(MANY)]
        assert "'text'" in kept["failed"].reason

    @pytest.mark.parametrize("events", [49, 50, 51])
    def test_a_log_that_sends_in_the_same_block(
        self, alias, receiver, published, settings, events
    ) -> None:
        """As ``delete()`` and ``add()`` do, without a savepoint; also where many are gathered."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        receiver(), receiver()
        told = receiver(signal=cancelled)

        class Audit(logging.Handler):
            def emit(self, record):
                with transaction.atomic(using=alias, savepoint=False):
                    cancelled.send(None, using=alias, n=-2)

        audit, logger = Audit(logging.ERROR), logging.getLogger("async_signals")
        logger.addHandler(audit)
        try:
            with transaction.atomic(using=alias):
                for n in range(events):
                    done.send(None, using=alias, n=n)
                cancelled.send(None, using=alias, n=-1, text="x" * 2000)
        finally:
            logger.removeHandler(audit)

        found = [row for row in rows(alias) if row.receiver == told.receiver_name]
        assert sorted(row.state for row in found) == ["failed", "published"]
        assert sum(sizes(alias)) == 2 * events + 2

    @pytest.mark.parametrize("many", [1, 3 * MANY])
    def test_what_cannot_be_encrypted_is_recorded(
        self, alias, receive, published, settings, monkeypatch, many
    ) -> None:
        """As failed, however many they are: what the transaction has saved is committed."""
        settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        with monkeypatch.context() as patch:
            encryption._box.cache_clear()
            patch.setitem(sys.modules, "cryptography.fernet", None)  # The extra is missing.
            send(alias, *range(many))
        settings.ASYNC_SIGNALS = {}

        assert [row.state for row in rows(alias)] == ["failed"] * many

    def test_the_order_of_few_is_kept(self, alias, receiver, published) -> None:
        """Those of several receivers leave as they were sent, whatever savepoints are between."""
        both = receiver(), receiver(signal=cancelled, durable=False, robust=True)
        with transaction.atomic(using=alias):
            for n in range(3):
                with transaction.atomic(using=alias):
                    done.send(None, using=alias, n=n)
                    cancelled.send(None, using=alias, n=n)

        names = [each.receiver_name for each in both]
        assert [message.receiver.name for message in published] == names * 3

    def test_large_ones_share_a_text_with_fewer(
        self, alias, receive, published, settings, monkeypatch
    ) -> None:
        """None is written by itself, and hardly any twice."""
        written = []

        def seal(envelopes):
            written.append(len(envelopes))
            return envelope.seal(envelopes)

        monkeypatch.setattr(bundling, "seal", seal)
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 100_000}
        with transaction.atomic(using=alias):
            for n in range(3 * MANY):
                done.send(None, using=alias, n=n, text="x" * 5_000)

        assert sum(sizes(alias)) == 3 * MANY
        texts = [text for row in rows(alias) for text in row.envelope.split("\n")]
        assert len(texts) < 3 * MANY / 15
        assert sum(written) < 3 * MANY * 1.1

    def test_beside_a_robust_receiver(self, alias, receiver, published) -> None:
        """Durable deliveries wait as one, whatever other receivers the signal has."""
        receive, robust = receiver(), receiver(durable=False, robust=True)
        with transaction.atomic(using=alias):
            for n in range(MANY):
                done.send(None, using=alias, n=n)
            assert len(connections[alias].run_on_commit) == MANY + 1

        assert [row.receiver for row in rows(alias)] == [receive.receiver_name]
        sent = [each.receiver for message in published for each in message.deliveries]
        assert sent.count(robust.receiver_name) == MANY

    def test_few_objects_wait(self, alias, receive, published) -> None:
        """Of ten thousand events hardly more than texts are kept until the commit."""
        gc.collect()
        with transaction.atomic(using=alias):
            send(alias, *range(MANY))
            before = len(gc.get_objects())
            send(alias, *range(10_000))
            kept = len(gc.get_objects()) - before
        assert kept < 1_000
        assert sum(sizes(alias)) == MANY + 10_000

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

    def test_a_broker_that_is_down(self, alias, receive, settings, no_broker, caplog) -> None:
        """It waits as any delivery does, and a relay publishes it when the broker is back."""
        send(alias, *range(MANY))
        [row] = rows(alias)
        assert (row.state, row.publishes) == ("pending", 0)
        assert f"Kept {MANY} durable deliveries in the ledger" in caplog.text

        settings.ASYNC_SIGNALS = {}
        assert relay_once(alias) == 1

    def test_a_sender_that_dies_before_the_publish(
        self, alias, receive, published, monkeypatch
    ) -> None:
        """A relay publishes the bundle when its time has come."""
        with monkeypatch.context() as patch:
            patch.setattr(outlet, "publish", lambda messages: [])
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

    def test_a_person_who_is_faster(self, alias, receive, published, monkeypatch) -> None:
        """What is discarded while a worker was stopped is not delivered by it."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        renew = bundles.renew

        def discard_first(run):
            Delivery.objects.using(alias).update(due_at=Now())
            operations.discard(Filter(), by="test", reason="no", using=alias)
            return renew(run)

        monkeypatch.setattr(bundles, "renew", discard_first)
        assert run(receive, bundle) == "skipped"
        assert [(row.state, row.size) for row in rows(alias)] == [("discarded", MANY)]

    def test_an_event_that_is_pruned_meanwhile(
        self, alias, receive, published, monkeypatch
    ) -> None:
        """Another receiver had brought its row, which nothing held any more: it is brought anew."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        insert, tries = bundles.insert_outgoing, []

        def pruned_at_first(outgoing, using):
            tries.append(using)
            if len(tries) == 1:
                raise IntegrityError("foreign key")
            insert(outgoing, using)

        monkeypatch.setattr(bundles, "insert_outgoing", pruned_at_first)
        assert run(receive, bundle) == "unpacked"
        assert (len(tries), len(rows(alias))) == (2, MANY)

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

    def test_one_event_for_all_of_its_receivers(self, alias, receiver, published) -> None:
        """Durable or robust, however many events the transaction sends."""
        durable, other = receiver(), receiver()
        robust = receiver(durable=False, robust=True)
        send(alias, *range(5 * MANY))
        events: dict[str, dict[str, int]] = {robust.receiver_name: {}}
        for message in published:
            if message.receiver.name == robust.receiver_name:
                of_robust = {each.event_id: each.kwargs["n"] for each in message.deliveries}
                events[robust.receiver_name] |= of_robust
        for row in rows(alias):
            run(durable if row.receiver == durable.receiver_name else other, row)
        for row in rows(alias):
            number = load(row.envelope).kwargs["n"]
            events.setdefault(row.receiver, {})[str(row.event_id)] = number

        assert sorted(events) == sorted(each.receiver_name for each in (durable, other, robust))
        first, *others = events.values()
        assert sorted(first.values()) == [*range(5 * MANY)]
        assert others == [first, first]

    def test_events_of_one_receiver(self, alias, receive, published) -> None:
        """Each has an id of its own, which its delivery knows it by."""
        send(alias, *range(5 * MANY))
        for row in rows(alias):
            run(receive, row)

        found = rows(alias)
        assert numbers(alias) == [*range(5 * MANY)]
        assert len(found) == Event.objects.using(alias).count() == 5 * MANY
        assert [load(row.envelope).event_id for row in found] == [str(r.event_id) for r in found]
        assert [load(row.envelope).id for row in found] == [str(row.pk) for row in found]

    def test_they_were_sent_when_they_were_sent(self, alias, receive, published) -> None:
        """Not when they were stored, nor when a worker unpacked them."""
        before = dt.datetime.now(dt.UTC)
        with transaction.atomic(using=alias):
            send(alias, *range(MANY))
            between = dt.datetime.now(dt.UTC)
            send(alias, MANY)
        for row in rows(alias):
            run(receive, row)

        times = [row.sent_at for row in rows(alias)]
        assert times == sorted(times)
        assert before <= times[0]
        assert times[-2] <= between <= times[-1]

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
    def test_it_is_discarded_and_retried_as_a_whole(self, alias, receive, published) -> None:
        """The audit says how many it stands for."""
        send(alias, *range(MANY))
        Delivery.objects.using(alias).update(due_at=Now())
        discarded = operations.discard(Filter(), by="test", reason="no", using=alias)
        assert rows(alias)[0].state == "discarded"
        retried = operations.retry(Filter(state="discarded"), by="test", using=alias)
        for operation in (discarded, retried):
            item = OperationItem.objects.using(alias).get(operation=operation.pk)
            assert item.outcome.endswith("(101 deliveries in one)")

        [row] = rows(alias)
        assert run(receive, row, epoch=row.epoch) == "unpacked"

    def test_who_retries_it_gives_it_time_anew(self, alias, receiver, published) -> None:
        """What was too old, and was asked for once more, is not too old for it."""
        receive = receiver(expires=60)
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        an_hour_ago = unbundled(bundle.envelope, MANY)[0].sent_at.isoformat()
        old = bundle.envelope.replace(an_hour_ago[:13], "2020-01-01T00")
        Delivery.objects.using(alias).update(envelope=old, state="failed", due_at=None)
        operations.retry(Filter(state="failed"), by="test", using=alias)

        assert run(receive, bundle) == "unpacked"
        assert [run(receive, row) for row in rows(alias)[:2]] == ["succeeded"] * 2

    def test_it_is_replayed_to_another_receiver(self, alias, receiver, published) -> None:
        """As where its own was removed: a bundle again, for the other one, of the same events."""
        removed, other = receiver(), receiver(signal=cancelled)
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        name = other.receiver_name
        operations.replay(Filter(), to=[name], by="test", using=alias)
        again = operations.replay(Filter(ids=(str(bundle.pk),)), to=[name], by="test", using=alias)
        assert (again.changed, again.unchanged) == (0, 1)

        _, repeat = rows(alias)
        assert (repeat.size, repeat.receiver, repeat.replay_of_id) == (MANY, name, bundle.pk)
        Delivery.objects.using(alias).filter(pk=bundle.pk).delete()
        relay_once(alias)
        assert run(other, repeat) == "unpacked"
        assert [run(other, row) for row in rows(alias)] == ["succeeded"] * MANY
        assert (other.calls, removed.calls) == ([*range(MANY)], [])
        assert all(load(row.envelope).replay for row in rows(alias))
        assert Event.objects.using(alias).count() == MANY

    @pytest.mark.parametrize("state", ["published", "failed"])
    def test_replays_are_of_the_same_events(self, alias, receiver, published, state) -> None:
        """To however many receivers, and beside it: so none of them is sent one twice."""
        own, *others = receiver(), receiver(signal=cancelled), receiver(signal=cancelled)
        names = [each.receiver_name for each in others]
        send(alias, *range(MANY))
        if state == "failed":
            Delivery.objects.using(alias).update(state=state, due_at=None)
        operations.replay(Filter(), to=names, by="test", using=alias)
        operations.retry(Filter(state="failed"), by="test", using=alias)
        for each in (own, *others):
            [row] = Delivery.objects.using(alias).filter(receiver=each.receiver_name)
            assert run(each, row) == "unpacked"

        events = [
            {
                load(row.envelope).kwargs["n"]: row.event_id
                for row in rows(alias)
                if row.receiver == each.receiver_name
            }
            for each in (own, *others)
        ]
        assert len(set(events[0].values())) == MANY
        assert events[1:] == [events[0]] * 2
        again = operations.replay(
            Filter(receiver=own.receiver_name), to=names[:1], by="test", using=alias
        )
        assert (again.changed, again.unchanged) == (0, MANY)

    def test_what_has_caused_it_is_told(self, alias, receiver, published) -> None:
        """Where it is discarded, its chain is that of what it stands for."""
        told = []

        def hear(delivery, **kwargs):
            told.append(delivery.chain)

        receive = receiver()
        delivery_discarded.connect(hear, sender=receive)
        token = running.set(
            user.Delivery(
                id=new_id(),
                event_id=new_id(),
                receiver="shop.cause",
                attempt=1,
                sent_at=dt.datetime.now(dt.UTC),
            )
        )
        send(alias, *range(MANY))
        running.reset(token)
        Delivery.objects.using(alias).update(due_at=Now())
        operations.discard(Filter(), by="test", reason="no", using=alias)
        assert told == [("shop.cause",)]

    def test_the_command_says_what_it_stands_for(self, alias, receive, published, capsys) -> None:
        """In a list, on the page of one, and in their documents."""
        send(alias, *range(MANY))
        [bundle] = rows(alias)
        for verb in ("list", f"show {bundle.pk}"):
            call_command("async_signals", *verb.split(), "--database", alias)
            assert "101 " in capsys.readouterr().out
        call_command("async_signals", "list", "--json", "--database", alias)
        assert json.loads(capsys.readouterr().out)["deliveries"][0]["size"] == MANY
