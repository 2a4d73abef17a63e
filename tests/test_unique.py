"""Events that are sent once in so many seconds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import logging
import threading
import uuid
from random import Random

import pytest
from django.db import OperationalError, connections, transaction
from django.db.models.functions import Now
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal
from django.test import TestCase

from async_signals import SerializationError, robust, testing
from async_signals.ids import new_id
from async_signals.models import Delivery, UniqueEvent
from async_signals.wire.envelope import pack
from tests.testapp.models import Article, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

signal = Signal()
HOUR = 3600


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture
def receiver(connect):
    """Connect a receiver with these options; return its name."""

    def connect_receiver(of=signal, name=None, **options):
        def receive(**kwargs) -> None: ...

        name = name or f"tests.unique.{new_id()}"
        kept.append(receive)
        connect(of, receive, name=name, **({"unique_for": HOUR} | options))
        return name

    kept = []
    return connect_receiver


def numbers(envelopes) -> list[int]:
    return [envelope.kwargs["n"] for envelope in envelopes]


def expire(ledger) -> None:
    """Let the time of all keys be over."""
    UniqueEvent.objects.using(ledger).update(expires_at=Now() - dt.timedelta(seconds=1))


@contextlib.contextmanager
def broken(ledger):
    """The ledger's database answers nothing."""

    def fail(*args):
        raise OperationalError("the database is gone")

    with connections[ledger].execute_wrapper(fail):
        yield


class TestWhatIsSent:
    def test_the_first_of_equal_events(self, ledger, receiver, sent) -> None:
        """One of those with equal values, until the time is over; then one again."""
        receiver(unique_by=["user"])
        for n, user in enumerate(["ann", "bob", "ann", "ann", "bob"]):
            signal.send(sender=None, user=user, n=n)
        assert numbers(sent) == [0, 1]

        expire(ledger)
        for n in (5, 6):
            signal.send(sender=None, user="ann", n=n)
        assert numbers(sent) == [0, 1, 5]
        assert UniqueEvent.objects.using(ledger).count() == 2

    def test_the_time_is_the_databases(self, ledger, receiver, sent) -> None:
        """``unique_for`` seconds from the first one on, by the database's clock."""
        receiver(unique_by=["user"], unique_for=90.5)
        signal.send(sender=None, user="ann", n=0)

        row = UniqueEvent.objects.using(ledger).annotate(now=Now()).get()
        left = (row.expires_at - row.now).total_seconds()
        assert 80 < left <= 90.5
        assert len(row.key) == 64

    def test_every_name_counts(self, receiver, sent) -> None:
        """Two names: both have to be equal; the sender is a name, too."""
        receiver(unique_by=["user", "sender"])
        for n, (sender, user) in enumerate([(Tag, 1), (Tag, 2), (None, 1), (Tag, 1)]):
            signal.send(sender=sender, user=user, n=n)

        assert numbers(sent) == [0, 1, 2]

    def test_receivers_do_not_share(self, receiver, sent) -> None:
        """Each receiver has its own keys."""
        names = [receiver(unique_by=["user"]) for _ in range(2)]
        for n in (1, 2):
            signal.send(sender=None, user=1, n=n)

        assert [envelope.receiver for envelope in sent] == names

    @pytest.mark.parametrize("unique_by", [["user"], lambda sender, user, **kwargs: user])
    def test_a_deletion_is_no_repetition(self, receiver, sent, unique_by) -> None:
        """Events of several signals are equal, but a deletion is so only to another one."""
        receiver([signal, pre_save, pre_delete, post_delete], unique_by=unique_by)
        for n, each in enumerate([signal, pre_save, post_delete, signal, pre_delete]):
            each.send(sender=Tag, user="ann", n=n)

        assert numbers(sent) == [0, 2]

    def test_a_function_gives_the_value(self, receiver, sent) -> None:
        """Of (sender, **kwargs); None: it is sent anyhow."""
        receiver(unique_by=lambda sender, user, **kwargs: user and [user, "x"])
        for n, user in enumerate(["ann", None, "ann", None, "bob"]):
            signal.send(sender=None, user=user, n=n)

        assert numbers(sent) == [0, 1, 3, 4]

    @pytest.mark.parametrize(
        ("one", "same", "another"),
        [
            (1, 1, True),
            ("1", "1", 1),
            (None, None, ""),
            ({"a", "b", "c"}, {"c", "b", "a"}, {"a", "b"}),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}),
            ({1: {"x"}, 2: 3}, {2: 3, 1: {"x"}}, {1: {"y"}, 2: 3}),
            ([1, 2], [1, 2], [2, 1]),
            (uuid.UUID(int=1), uuid.UUID(int=1), uuid.UUID(int=2)),
            (frozenset({(1, 2), (3, 4)}), frozenset({(3, 4), (1, 2)}), frozenset({(1, 2)})),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_values(self, receiver, sent, one, same, another) -> None:
        """Equal values of one type are equal, in whatever order sets and dicts were made."""
        receiver(unique_by=["value"])
        for n, value in enumerate([one, same, another]):
            signal.send(sender=None, value=value, n=n)

        assert numbers(sent) == [0, 2]

    def test_instances_count_by_label_alias_and_key(self, receiver, sent) -> None:
        """Another state of the same row is the same; another row or database is not."""
        receiver(unique_by=["tag"], exclude=["tag"])
        here, also_here = Tag.objects.create(name="a"), Tag.objects.create(name="b")
        there = Tag(pk=here.pk, name="a")
        there.save(using="other")
        again = Tag.objects.get(pk=here.pk)
        again.name = "changed"
        for n, tag in enumerate([here, again, also_here, there, again]):
            signal.send(sender=None, tag=tag, n=n)

        assert numbers(sent) == [0, 2, 3]

    def test_a_deleted_instance(self, connect, sent) -> None:
        """It counts by its key, too, although it travels as its fields."""

        def receive(**kwargs) -> None: ...

        connect(
            [pre_delete, post_delete], receive, sender=Tag, unique_by=["instance"], unique_for=HOUR
        )
        Tag.objects.create(name="a").delete()

        assert len(sent) == 1


class TestTransactions:
    def test_many_of_one_transaction_are_asked_for_together(
        self, ledger, receiver, sent, django_assert_num_queries
    ) -> None:
        """Two hundred new keys are one look and one insert; what is known is one look."""
        receiver(unique_by=["user"])

        def send(events) -> list[int]:
            sent.clear()
            with transaction.atomic(using="other"):
                for n in range(events):
                    signal.send(sender=None, user=n // 2, n=n, using="other")
            return numbers(sent)

        with django_assert_num_queries(4, connection=connections[ledger]):  # BEGIN and COMMIT.
            assert send(400) == list(range(0, 400, 2))
        with django_assert_num_queries(1, connection=connections[ledger]):
            assert send(400) == []
        rows = UniqueEvent.objects.using(ledger)
        over = rows.filter(key__lt="8").update(expires_at=Now() - dt.timedelta(seconds=1))
        assert 0 < over < 200
        assert len(send(420)) == over + 10

    def test_decided_after_the_commit(self, ledger, receiver, sent) -> None:
        """In the transaction nothing is written, and nobody waits for it."""
        receiver(unique_by=["user"], using=ledger)
        with transaction.atomic(using=ledger):
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)
            assert not UniqueEvent.objects.using(ledger).exists()

        assert numbers(sent) == [1]

    def test_a_rollback_leaves_nothing(self, ledger, receiver, sent) -> None:
        """What was never sent keeps nothing else from being sent."""
        receiver(unique_by=["user"], using=ledger)
        with contextlib.suppress(Undo), transaction.atomic(using=ledger):
            signal.send(sender=None, user=1, n=1)
            raise Undo
        signal.send(sender=None, user=1, n=2)

        assert numbers(sent) == [2]

    def test_inside_a_transaction_of_the_ledgers_own(self, ledger, receiver, sent) -> None:
        """With ``on_commit=False`` the key is written in the transaction, and goes with it."""
        receiver(unique_by=["user"], using=ledger, on_commit=False)
        with contextlib.suppress(Undo), transaction.atomic(using=ledger):
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)
            expire(ledger)
            for n in (3, 4):
                signal.send(sender=None, user=1, n=n)
            raise Undo
        signal.send(sender=None, user=1, n=5)

        assert numbers(sent) == [1, 3, 5]

    @pytest.mark.parametrize(("coalesce", "number"), [(False, 2), (True, 1)])
    def test_a_row_that_one_transaction_makes_changes_and_deletes(
        self, ledger, connect, sent, coalesce, number
    ) -> None:
        """Its deletion arrives, whatever becomes of its first save."""
        seen = []

        def receive(signal, instance, **kwargs) -> None:
            seen.append((signal, instance.title))

        connect(
            [post_save, post_delete],
            receive,
            sender=Article,
            name=(name := f"tests.unique.{new_id()}"),
            unique_by=["instance"],
            unique_for=HOUR,
            robust=True,
            coalesce=coalesce,
            missing="skip",
        )
        with transaction.atomic():
            article = Article.objects.create(title="1")
            article.title = "2"
            article.save()
            article.delete()
        results = robust.run(pack(sent), name=name, worker="w@test/1")

        assert {result.state for result in results} == {"succeeded"}
        assert seen == [(post_delete, "2")]
        assert len(sent) == number

    def test_coalesced_first(self, receiver, sent) -> None:
        """Of those that a transaction makes one, that one is asked for."""
        receiver(unique_by=["user"], coalesce=True)
        with transaction.atomic():
            for n in (1, 2):
                signal.send(sender=None, user=n, n=n)
        signal.send(sender=None, user=1, n=3)
        signal.send(sender=None, user=2, n=4)

        assert numbers(sent) == [2, 3]

    def test_a_coroutine_may_send(self, ledger, receiver, sent) -> None:
        """``signal.send()`` in an ``async`` view: decided there, too."""
        receiver(unique_by=["user"], on_commit=False)

        async def view() -> None:
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)

        asyncio.run(view())

        assert numbers(sent) == [1]


@pytest.mark.parametrize("expired", [False, True], ids=["new", "over"])
def test_of_twenty_senders_at_once_one_delivers(ledger, receiver, sent, expired) -> None:
    """Whether the key is new, or its time is over."""
    if ledger == "default":
        pytest.skip("threads of one process would wait for SQLite's one writer")
    receiver(unique_by=["user"])
    if expired:
        signal.send(sender=None, user=1, n=0)
        expire(ledger)
        sent.clear()

    def send(n) -> None:
        signal.send(sender=None, user=1, n=n)

    at_once(ledger, 20, send)

    assert len(sent) == 1


def test_commits_that_take_the_same_keys_at_once(ledger, receiver, sent) -> None:
    """Eight transactions with the same forty events, each in its own order: each leaves once."""
    if ledger == "default":
        pytest.skip("threads of one process would wait for SQLite's one writer")
    receiver(unique_by=["user"], using=ledger)
    for user in range(0, 40, 4):
        signal.send(sender=None, user=user, n=user)
    expire(ledger)
    sent.clear()

    def send(n) -> None:
        with transaction.atomic(using=ledger):
            for user in Random(n).sample(range(40), 40):
                signal.send(sender=None, user=user, n=user)

    at_once(ledger, 8, send)

    assert sorted(numbers(sent)) == list(range(40))


def at_once(ledger, count, work) -> None:
    """Call ``work(n)`` in so many threads, as near to each other as can be."""
    all_ready, raised = threading.Barrier(count), []

    def run(n) -> None:
        try:
            connections[ledger].ensure_connection()
            all_ready.wait(30)
            work(n)
        except Exception as exc:
            raised.append(exc)
        finally:
            connections.close_all()

    # With the outlet of the test.
    contexts = [contextvars.copy_context() for _ in range(count)]
    threads = [
        threading.Thread(target=context.run, args=(run, n)) for n, context in enumerate(contexts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == []


class TestFailures:
    def test_without_the_ledgers_database_it_is_sent(self, ledger, receiver, sent, caplog) -> None:
        """Twice rather than never; the log says so."""
        name = receiver(unique_by=["user"])
        with caplog.at_level(logging.WARNING), broken(ledger):
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)

        assert numbers(sent) == [1, 2]
        message = (
            f"Cannot tell whether events of {name} were sent before: OperationalError: the "
            "database is gone. They are sent."
        )
        assert caplog.messages == [message, message]

    def test_a_transaction_goes_on_without_it(self, ledger, receiver, sent) -> None:
        """Where the ledger fails inside somebody's transaction, that is not broken."""
        receiver(unique_by=["user"], using=ledger, on_commit=False)

        def fail(execute, sql, *args):
            if "uniqueevent" in sql:
                raise OperationalError("no such table")
            return execute(sql, *args)

        with transaction.atomic(using=ledger):
            with connections[ledger].execute_wrapper(fail):
                signal.send(sender=None, user=1, n=1)
            Tag(name="kept").save(using=ledger)

        assert numbers(sent) == [1]
        assert Tag.objects.using(ledger).filter(name="kept").exists()

    def test_a_plain_delivery_that_is_lost_gives_its_key_back(
        self, ledger, receiver, monkeypatch
    ) -> None:
        """The broker was down: the next event of that key is sent."""
        published, is_down = [], True

        def take(messages):
            if is_down:
                return [(message, OSError("down")) for message in messages]
            published.extend(messages)
            return []

        monkeypatch.setattr("async_signals.sending.outlet.publish", take)
        receiver(unique_by=["user"])
        signal.send(sender=None, user=1, n=1)
        is_down = False
        for n in (2, 3):
            signal.send(sender=None, user=1, n=n)

        assert [message.envelopes[0].kwargs["n"] for message in published] == [2]

    def test_a_robust_delivery_keeps_its_key(self, ledger, receiver, monkeypatch) -> None:
        """It waits in the ledger, and is not lost."""
        monkeypatch.setattr(
            "async_signals.sending.outlet.publish",
            lambda messages: [(message, OSError("down")) for message in messages],
        )
        receiver(unique_by=["user"], robust=True)
        for n in (1, 2):
            signal.send(sender=None, user=1, n=n)

        assert Delivery.objects.using(ledger).count() == 1

    def test_no_signal_of_a_model_is_sent(self, ledger, receiver, monkeypatch) -> None:
        """Taking a key, taking it over and giving it back are no events of the site."""
        heard = []

        def hear(sender, **kwargs) -> None:
            heard.append(sender)

        monkeypatch.setattr(
            "async_signals.sending.outlet.publish",
            lambda messages: [(message, OSError("down")) for message in messages],
        )
        receiver(unique_by=["user"])
        for each in (pre_save, post_save, pre_delete, post_delete):
            each.connect(hear)
        try:
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)
        finally:
            for each in (pre_save, post_save, pre_delete, post_delete):
                each.disconnect(hear)

        assert heard == []


class TestWhatIsRefused:
    def test_an_argument_that_is_not_there(self, receiver, sent) -> None:
        """A name that the signal does not carry would make all events equal."""
        name = receiver(unique_by=["user"])
        with pytest.raises(SerializationError) as caught:
            signal.send(sender=None, n=1)

        assert str(caught.value) == (
            f"cannot send 'user' to {name}: expected an argument of that name, as unique_by "
            "has it, got: nothing. Send it, or let unique_by be a function of (sender, **kwargs)."
        )

    def test_a_value_that_cannot_travel(self, receiver, sent) -> None:
        """It has no form that another process would know it by."""
        receiver(unique_by=["user"], exclude=["user"])
        with pytest.raises(SerializationError, match="cannot send 'user'"):
            signal.send(sender=None, user=object(), n=1)

    def test_for_robust_receivers_the_refusal_is_recorded(self, ledger, receiver, sent) -> None:
        """The sender hears nothing; a person sees why."""
        receiver(unique_by=["user"], robust=True)
        signal.send(sender=None, n=1)

        assert Delivery.objects.using(ledger).get().state == "failed"


class InTestCase(TestCase):
    """Inside Django's own TestCase, whose transaction is the ledger's, too."""

    def test_captured_callbacks(self) -> None:
        """The first of two is sent, and the rest of the test goes on."""
        from async_signals import connect

        def receive(**kwargs) -> None: ...

        connect(signal, receive, unique_by=["user"], unique_for=HOUR)
        self.addCleanup(signal.disconnect, receive)
        with testing.capture() as sent, self.captureOnCommitCallbacks(execute=True):
            for n in (1, 2):
                signal.send(sender=None, user=1, n=n)
        self.assertEqual(numbers(sent), [1])
        self.assertEqual(UniqueEvent.objects.count(), 1)
