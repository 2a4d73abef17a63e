"""Receivers that cause themselves, in this process: stopped, with the chain drawn."""

from __future__ import annotations

import pickle

import pytest
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from async_signals import (
    RecursionLimitError,
    Retry,
    codec,
    current_delivery,
    muted,
    operations,
    relay,
    robust,
    signals,
    testing,
)
from async_signals.ids import new_id
from async_signals.models import Delivery, Event
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference, dump, load, pack
from tests.ledger.conftest import SENT, make, save
from tests.testapp.models import Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

first_signal, second_signal, third_signal = Signal(), Signal(), Signal()


@pytest.fixture
def named(connect):
    """Connect under a name of the test's own, and return that name."""

    def connect_under_a_name(signal, receiver, name, **options):
        name = f"{name}.{new_id()}"
        connect(signal, receiver, name=name, **options)
        return name

    return connect_under_a_name


class TestOneReceiver:
    def test_a_receiver_that_saves_its_own_sender_is_stopped(self, named, inline) -> None:
        """After MAX_RECURSION runs its save fails, and draws how it came to that."""
        runs = []

        def receive(instance, **kwargs) -> None:
            runs.append(current_delivery().chain)
            instance.save()

        name = named(post_save, receive, "shop.receive", sender=Tag)
        with pytest.raises(RecursionLimitError) as caught:
            Tag.objects.create(name="t")

        assert runs == [(name,) * depth for depth in range(5)]
        assert str(caught.value) == (
            f"cannot send to {name}: expected at most 5 runs of it in one chain, got: "
            f"{' -> '.join([name] * 6)}. Let the receiver tell its own saves from those of "
            "others, use QuerySet.update(), or wrap its save in muted()."
        )
        assert (caught.value.receiver, caught.value.chain, caught.value.limit) == (
            name,
            (name,) * 5,
            5,
        )

    def test_in_a_transaction_too(self, named, inline) -> None:
        """What waits for a commit keeps what caused it."""
        runs = []

        def receive(instance, **kwargs) -> None:
            runs.append(1)
            with transaction.atomic():
                instance.save()

        named(post_save, receive, "shop.receive", sender=Tag)
        with pytest.raises(RecursionLimitError), transaction.atomic():
            Tag.objects.create(name="t")

        assert len(runs) == 5

    def test_by_what_it_leaves_for_after_its_commit(self, named, sent) -> None:
        """With ``effect="once"``, whose transaction commits when the receiver has returned."""
        runs = []

        def receive(instance, **kwargs) -> None:
            runs.append(current_delivery().chain)
            transaction.on_commit(instance.save, robust=True)

        name = named(
            *(post_save, receive, "shop.receive"),
            sender=Tag,
            durable=True,
            effect="once",
            retry=Retry(max_attempts=1),
        )
        with transaction.atomic():
            Tag.objects.create(name="t")
        for _ in range(8):
            for row in Delivery.objects.filter(state="published"):
                wire = pack([Reference(id=str(row.pk), receiver=name, epoch=0, using="default")])
                robust.run(wire, name=name, worker="w@test/1")

        assert runs == [(name,) * depth for depth in range(5)]
        assert Event.objects.filter(cause__isnull=True).count() == 1
        [refused] = Delivery.objects.filter(state="failed")
        assert refused.exception == "async_signals.exceptions.RecursionLimitError"

    @pytest.mark.parametrize("limit", [1, 2, 30])
    def test_the_limit_is_a_setting(self, named, inline, settings, limit) -> None:
        """MAX_RECURSION says how many runs there may be."""
        settings.ASYNC_SIGNALS = {"MAX_RECURSION": limit}
        runs = []

        def receive(**kwargs) -> None:
            runs.append(1)
            first_signal.send(sender=None)

        named(first_signal, receive, "shop.receive")
        with pytest.raises(RecursionLimitError):
            first_signal.send(sender=None)

        assert len(runs) == limit

    def test_async_def_receivers(self, named, inline) -> None:
        """A coroutine that sends is known for what it runs for."""
        runs = []

        async def receive(**kwargs) -> None:
            runs.append(1)
            await first_signal.asend(sender=None)

        named(first_signal, receive, "shop.receive")
        with pytest.raises(RecursionLimitError):
            first_signal.send(sender=None)

        assert len(runs) == 5

    def test_send_robust_returns_the_error(self, named, inline) -> None:
        """To whoever asked for errors to be returned."""
        responses = []

        def receive(**kwargs) -> None:
            responses.append(first_signal.send_robust(sender=None)[0][1])

        named(first_signal, receive, "shop.receive")
        first_signal.send(sender=None)

        assert [type(response) for response in responses] == [RecursionLimitError] + [
            type(None)
        ] * 4

    def test_the_cures_work(self, named, inline) -> None:
        """A save inside ``muted()``, and an update, cause nothing."""
        runs = []

        def receive(instance, **kwargs) -> None:
            runs.append(1)
            with muted(post_save):
                instance.save()
            Tag.objects.filter(pk=instance.pk).update(name="again")

        named(post_save, receive, "shop.receive", sender=Tag)
        Tag.objects.create(name="t")

        assert len(runs) == 1

    def test_the_error_survives_pickling(self) -> None:
        """As Celery's result backends do with it."""
        error = RecursionLimitError("shop.receive", ("shop.receive",), 1)
        again = pickle.loads(pickle.dumps(error))

        assert (str(again), again.chain) == (str(error), error.chain)


class TestSeveralReceivers:
    def test_two_that_cause_each_other_are_stopped(self, named, inline) -> None:
        """The chain names both, in their order."""
        runs = []

        def ping(**kwargs) -> None:
            runs.append("ping")
            second_signal.send(sender=None)

        def pong(**kwargs) -> None:
            runs.append("pong")
            first_signal.send(sender=None)

        one, other = named(first_signal, ping, "ping"), named(second_signal, pong, "pong")
        with pytest.raises(RecursionLimitError) as caught:
            first_signal.send(sender=None)

        assert runs == ["ping", "pong"] * 5
        assert caught.value.chain == (one, other) * 5
        assert f"got: {' -> '.join([one, other] * 5 + [one])}." in str(caught.value)

    def test_a_long_chain_of_different_receivers_goes_on(self, connect, inline) -> None:
        """Twenty receivers, each of which causes the next: nothing is wrong with that."""
        chain = [Signal() for _ in range(20)]
        runs, receivers = [], []
        for place, signal in enumerate(chain):

            def receive(place=place, **kwargs) -> None:
                runs.append((place, len(current_delivery().chain)))
                if place + 1 < len(chain):
                    chain[place + 1].send(sender=None)

            receivers.append(receive)
            connect(signal, receive, name=f"chain.{place}.{new_id()}")
        chain[0].send(sender=None)

        assert runs == [(place, place) for place in range(20)]

    def test_one_that_is_caused_often_in_one_run_goes_on(self, named, inline) -> None:
        """Fifty deliveries side by side are no chain."""
        runs = []

        def many(**kwargs) -> None:
            for _ in range(50):
                second_signal.send(sender=None)

        def one(**kwargs) -> None:
            runs.append(len(current_delivery().chain))

        named(first_signal, many, "many")
        named(second_signal, one, "one")
        first_signal.send(sender=None)

        assert runs == [1] * 50

    def test_what_follows_is_of_no_chain(self, named, inline) -> None:
        """After a receiver has returned, or failed, nothing is caused by it."""

        def receive(fail, **kwargs) -> None:
            if fail:
                raise LookupError

        named(first_signal, receive, "shop.receive")
        for _ in range(10):
            first_signal.send(sender=None, fail=False)
            with pytest.raises(LookupError):
                first_signal.send(sender=None, fail=True)

        with testing.capture() as sent:
            first_signal.send(sender=None, fail=False)
        assert (sent[0].cause, sent[0].chain) == (None, ())


class TestTheLedger:
    def test_a_robust_receiver_is_stopped_and_its_sender_hears_nothing(
        self, named, inline, ledger
    ) -> None:
        """The run that would be one too many is recorded as failed, with its cause."""
        runs = []

        def receive(**kwargs) -> None:
            runs.append(current_delivery())
            first_signal.send(sender=None)

        name = named(first_signal, receive, "shop.receive", robust=True)
        first_signal.send(sender=None)

        assert len(runs) == 5
        delivery = Delivery.objects.using(ledger).select_related("event").get()
        assert (delivery.receiver, delivery.state) == (name, "failed")
        assert delivery.exception == "async_signals.exceptions.RecursionLimitError"
        assert " -> ".join([name] * 6) in delivery.message
        assert str(delivery.event.cause) == runs[-1].id

    def test_a_nested_failure_knows_its_cause(self, named, ledger) -> None:
        """The event of a delivery that failed names the delivery whose receiver sent it."""

        def outer(**kwargs) -> None:
            second_signal.send(sender=None, number=1)

        def inner(number, **kwargs) -> None:
            raise LookupError(number)

        first = named(first_signal, outer, "outer", robust=True)
        second = named(second_signal, inner, "inner", robust=True, retry=Retry(max_attempts=1))
        with testing.capture() as sent:
            first_signal.send(sender=None)
            [cause] = sent
            robust.run(pack([cause]), name=first, worker="w@test/1")
        [_, nested] = sent
        assert [each.state for each in robust.run(pack([nested]), name=second, worker="w")] == [
            "failed"
        ]

        event = Event.objects.using(ledger).get()
        assert (str(event.pk), str(event.cause)) == (nested.event_id, cause.id)
        assert nested.chain == (first,)
        assert Delivery.objects.using(ledger).get().receiver == second


class TestLifecycleSignals:
    def test_a_receiver_of_its_own_publishing_is_stopped(self, named, monkeypatch, caplog) -> None:
        """What is published because of a publishing is announced, too, but not without end."""
        published = []

        def take(messages):
            published.extend(message.receiver.name for message in messages)
            return []

        def receive(**kwargs) -> None: ...

        def count(delivery, **kwargs) -> None: ...

        monkeypatch.setattr("async_signals.sending.outlet.publish", take)
        name = named(first_signal, receive, "shop.receive")
        counter = named(signals.delivery_published, count, "shop.count", exclude=["sender"])
        first_signal.send(sender=None)

        assert published == [name] + [counter] * 5
        assert "RecursionLimitError" in caplog.text
        assert current_delivery() is None

    def test_a_receiver_of_successes_knows_the_cause(self, named, sent, ledger) -> None:
        """What is sent because a delivery succeeded, was caused by that delivery."""

        def receive(**kwargs) -> None: ...

        def count(delivery, **kwargs) -> None: ...

        name = named(first_signal, receive, "shop.receive", robust=True)
        named(signals.delivery_succeeded, count, "shop.count", exclude=["sender"])
        first_signal.send(sender=None)
        robust.run(pack(sent), name=name, worker="w@test/1")

        [delivery, told] = sent
        assert (told.cause, told.chain) == (delivery.id, (name,))
        assert codec.decode(told.kwargs)["delivery"].id == delivery.id

    def test_a_receiver_of_what_the_relay_publishes_is_stopped(
        self, named, ledger, monkeypatch
    ) -> None:
        """What waits for its countdown in the ledger keeps what caused it."""
        runs, messages = [], []

        def take(batch):
            messages.extend(batch)
            return []

        def receive(**kwargs) -> None: ...

        def count(delivery, **kwargs) -> None:
            runs.append(current_delivery().chain)

        monkeypatch.setattr("async_signals.relay.publish", take)
        first = named(first_signal, receive, "shop.receive", robust=True, countdown=60)
        counter = named(
            *(signals.delivery_published, count, "shop.count"),
            robust=True,
            countdown=60,
            exclude=["sender"],
        )
        first_signal.send(sender=None)
        for _ in range(8):
            Delivery.objects.using(ledger).filter(state="pending").update(due_at=SENT)
            relay.Relay().tick()
            while messages:
                message = messages.pop()
                robust.run(pack(message.deliveries), name=message.receiver.name, worker="w")

        assert runs == [(first, *[counter] * depth) for depth in range(5)]
        [refused] = Delivery.objects.using(ledger).filter(state="failed")
        assert refused.exception == "async_signals.exceptions.RecursionLimitError"

    @pytest.mark.parametrize(
        ("state", "signal"),
        [
            ("pending", signals.delivery_published),
            ("running", signals.delivery_retrying),
            ("failed", signals.delivery_discarded),
        ],
    )
    def test_what_is_told_of_stored_deliveries_has_its_chain(
        self, named, ledger, monkeypatch, state, signal
    ) -> None:
        """Whatever the relay and people do to them, and also beside one that nobody can read."""
        monkeypatch.setattr("async_signals.relay.publish", lambda messages: [])
        told = []

        def hear(delivery, **kwargs) -> None:
            told.append((delivery.id, delivery.chain))

        name = named(first_signal, lambda **kwargs: None, "shop.receive", robust=True)
        caused, alone, unreadable = rows = [make(state, receiver=name) for _ in range(3)]
        envelope = load(caused.envelope)
        cause = envelope._replace(cause=new_id(), chain=("shop.one", "shop.two"))
        caused.envelope, unreadable.envelope = dump(cause), "{"
        caused.event.cause = unreadable.event.cause = cause.cause
        save(ledger, *rows)
        signal.connect(hear)
        try:
            relay.Relay().tick()
            operations.discard(Filter(state="failed"), by="ana", reason="old")
        finally:
            signal.disconnect(hear)

        assert sorted(told) == sorted(
            [(str(caused.pk), cause.chain), (str(alone.pk), ()), (str(unreadable.pk), ())]
        )

    def test_where_nobody_listens_the_relay_asks_for_no_cause(
        self, named, ledger, monkeypatch
    ) -> None:
        """It publishes thousands a second, and reads none of their envelopes."""
        monkeypatch.setattr("async_signals.relay.publish", lambda messages: [])
        name = named(first_signal, lambda **kwargs: None, "shop.receive", robust=True)
        save(ledger, make("pending", receiver=name))

        with CaptureQueriesContext(connections[ledger]) as queries:
            one = relay.Relay()
            one.tick()

        assert one.published == 1
        assert [each["sql"] for each in queries if "cause" in each["sql"]] == []
