"""When a delivery leaves: with its transaction, on the right database, in one batch."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test import Client, TestCase, TransactionTestCase
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import SimpleLazyObject

from async_signals import MessageTooLargeError, testing
from async_signals.ids import new_id
from async_signals.models import Delivery
from async_signals.sending.dispatch import connection_to
from async_signals.sending.outlet import outlet
from async_signals.signals import delivery_failed
from tests.conftest import require
from tests.testapp.models import Article, Tag
from tests.testproject.celery import app

signal = Signal()


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture
def receive(connect):
    def receive(**kwargs) -> None: ...

    connect(signal, receive)
    return receive


@pytest.fixture
def batches():
    """What is published, as one list for each publish batch."""
    published = []
    token = outlet.set(lambda messages: published.append(list(messages)))
    yield published
    outlet.reset(token)


def numbers(envelopes) -> list[int]:
    return [envelope.kwargs["n"] for envelope in envelopes]


@pytest.mark.django_db(databases="__all__")
class TestCommit:
    def test_autocommit_sends_at_once(self, alias, receive, sent) -> None:
        """Outside a transaction there is nothing to wait for."""
        signal.send(sender=None, using=alias, n=1)

        assert numbers(sent) == [1]

    def test_commit_sends(self, alias, receive, sent) -> None:
        """Inside a transaction nothing leaves before its commit."""
        with transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=1)
            assert sent == []

        assert numbers(sent) == [1]

    def test_rollback_sends_nothing(self, alias, receive, sent) -> None:
        """What is rolled back was never sent."""
        with pytest.raises(Undo), transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=1)
            raise Undo

        assert sent == []

    def test_after_a_rollback_the_next_transaction_is_clean(self, alias, receive, sent) -> None:
        """Nothing of a rolled-back transaction leaves with a later one."""
        with pytest.raises(Undo), transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=1)
            raise Undo
        with transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=2)
        signal.send(sender=None, using=alias, n=3)

        assert numbers(sent) == [2, 3]

    def test_a_rolled_back_savepoint_takes_its_own_with_it(self, alias, receive, batches) -> None:
        """Only what the inner block has sent is dropped; the rest leaves in one batch."""
        with transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=1)
            with pytest.raises(Undo), transaction.atomic(using=alias):
                signal.send(sender=None, using=alias, n=2)
                with transaction.atomic(using=alias):
                    signal.send(sender=None, using=alias, n=3)
                raise Undo
            with transaction.atomic(using=alias):
                signal.send(sender=None, using=alias, n=4)
            signal.send(sender=None, using=alias, n=5)

        assert [[m.envelopes[0].kwargs["n"] for m in batch] for batch in batches] == [[1, 4, 5]]

    def test_the_first_event_may_be_the_one_rolled_back(self, alias, receive, batches) -> None:
        """Whichever callback is called first speaks for those that live, and for no other."""
        with transaction.atomic(using=alias):
            with pytest.raises(Undo), transaction.atomic(using=alias):
                signal.send(sender=None, using=alias, n=1)
                raise Undo
            signal.send(sender=None, using=alias, n=2)
            with pytest.raises(Undo), transaction.atomic(using=alias):
                signal.send(sender=None, using=alias, n=3)
                raise Undo

        assert [[m.envelopes[0].kwargs["n"] for m in batch] for batch in batches] == [[2]]

    def test_nested_blocks_send_with_the_outermost(self, alias, receive, sent) -> None:
        """An inner block that ends has committed nothing yet."""
        with transaction.atomic(using=alias):
            with transaction.atomic(using=alias), transaction.atomic(using=alias, savepoint=False):
                signal.send(sender=None, using=alias, n=1)
            assert sent == []

        assert numbers(sent) == [1]

    def test_durable_blocks(self, alias, receive, sent) -> None:
        """``atomic(durable=True)`` commits when it ends, and so it sends."""
        with transaction.atomic(using=alias, durable=True):
            signal.send(sender=None, using=alias, n=1)
            assert sent == []

        assert numbers(sent) == [1]

    def test_a_swallowed_database_error_sends_nothing(self, alias, receive, sent) -> None:
        """A transaction that Django has marked for rollback takes its events with it."""
        with transaction.atomic(using=alias):
            signal.send(sender=None, using=alias, n=1)
            transaction.set_rollback(True, using=alias)

        assert sent == []

    def test_manual_transactions_are_refused_as_on_commit_refuses_them(
        self, alias, receive, sent
    ) -> None:
        """With autocommit off nobody can tell the commit: Django's own error says so."""
        transaction.set_autocommit(False, using=alias)
        try:
            with pytest.raises(transaction.TransactionManagementError, match="manual transaction"):
                signal.send(sender=None, using=alias, n=1)
        finally:
            transaction.rollback(using=alias)
            transaction.set_autocommit(True, using=alias)

    def test_all_of_one_transaction_leave_in_one_batch(self, alias, connect, batches) -> None:
        """Several receivers, several events, several savepoints: one publish."""

        def first(**kwargs) -> None: ...

        def second(**kwargs) -> None: ...

        connect(post_save, first, sender=Tag)
        connect(post_save, second, sender=Tag)
        with transaction.atomic(using=alias):
            for n in range(5):
                Tag.objects.using(alias).get_or_create(name=str(n))

        [batch] = batches
        assert [message.receiver.name.rpartition(".")[2] for message in batch] == [
            "first",
            "second",
        ] * 5
        assert len({message.envelopes[0].event_id for message in batch}) == 5
        assert len({message.envelopes[0].id for message in batch}) == 10


@pytest.mark.django_db(databases="__all__", transaction=True)
class TestAliases:
    def test_events_of_another_database_wait_for_that_one(self, connect, sent) -> None:
        """``save(using="other")`` inside ``atomic(using="other")``: default has no say."""

        def receive(**kwargs) -> None: ...

        connect(post_save, receive, sender=Tag)
        with transaction.atomic(using="other"):
            Tag(name="other").save(using="other")
            assert sent == []
            Tag(name="default").save()
            assert len(sent) == 1
        assert len(sent) == 2
        with pytest.raises(Undo), transaction.atomic(using="other"):
            Tag(name="undone").save(using="other")
            raise Undo
        assert len(sent) == 2

    def test_the_instance_decides_where_the_signal_has_no_using(self, receive, sent) -> None:
        """A signal of one's own waits for the database of the instance that it carries."""
        tag = Tag.objects.using("other").create(name="t")

        with transaction.atomic(using="other"):
            signal.send(sender=None, movie=tag, n=1)
            assert sent == []
        assert numbers(sent) == [1]

    def test_what_was_read_from_a_replica_waits_for_where_it_is_written(
        self, receive, sent, settings
    ) -> None:
        """A replica has no transaction of the sender's."""
        Article.objects.using("other").create(pk=1, title="a")
        settings.DATABASE_ROUTERS = ["tests.testproject.routers.ReadsFromReplica"]
        article = Article.objects.get(pk=1)
        assert article._state.db == "other"

        with contextlib.suppress(Undo), transaction.atomic(using="default"):
            signal.send(sender=None, article=article, n=1)
            raise Undo
        assert sent == []

        with transaction.atomic(using="default"):
            signal.send(sender=None, article=article, n=2)
            signal.send(sender=None, article=SimpleLazyObject(lambda: article), n=3)
            assert sent == []
        assert numbers(sent) == [2, 3]

    def test_an_open_transaction_decides_before_routers(self, receive, sent, settings) -> None:
        """Who writes elsewhere than the routers say has said so."""
        settings.DATABASE_ROUTERS = ["tests.testproject.routers.ReadsFromReplica"]
        with contextlib.suppress(Undo), transaction.atomic(using="other"):
            article = Article(title="a")
            article.save(using="other")
            signal.send(sender=None, article=article, n=1)
            raise Undo
        assert sent == []

    def test_the_option_decides_before_all(self, connect, sent) -> None:
        """``using=`` names the database whose commit counts."""

        def receive(**kwargs) -> None: ...

        connect(signal, receive, using="other")
        with transaction.atomic(using="default"), transaction.atomic(using="other"):
            signal.send(sender=None, using="default", n=1)
            assert sent == []
        with transaction.atomic(using="default"):
            signal.send(sender=None, using="default", n=2)
            assert numbers(sent) == [1, 2]

    def test_a_using_that_is_no_alias_is_data(self, receive, sent) -> None:
        """A signal of one's own may carry a ``using`` of its own."""
        signal.send(sender=None, using="a hammer", n=1)

        assert numbers(sent) == [1]

    def test_on_commit_false_sends_at_once(self, connect, sent) -> None:
        """Who asks for it gets it: sent inside the transaction, whatever becomes of it."""

        def receive(**kwargs) -> None: ...

        connect(signal, receive, on_commit=False)
        with pytest.raises(Undo), transaction.atomic():
            signal.send(sender=None, n=1)
            assert numbers(sent) == [1]
            raise Undo


@pytest.mark.django_db(transaction=True)
class TestCoroutines:
    def test_send_in_a_coroutine(self, receive, sent) -> None:
        """``signal.send()`` in an ``async`` view asks the database nothing, and is sent."""
        connections["default"].ensure_connection()

        async def view() -> None:
            signal.send(sender=None, n=1)

        asyncio.run(view())

        assert numbers(sent) == [1]

    def test_a_coroutine_has_a_connection_of_its_own(self, receive, sent) -> None:
        """The transaction of the thread that waits for it is not its own."""

        async def view() -> None:
            signal.send(sender=None, using="default", n=2)

        with transaction.atomic():
            signal.send(sender=None, using="default", n=1)
            asyncio.run(view())
            assert numbers(sent) == [2]
            signal.send(sender=None, using="default", n=3)
        assert numbers(sent) == [2, 1, 3]


@pytest.mark.django_db(databases="__all__", transaction=True)
class TestThreads:
    def test_each_has_transactions_of_its_own(self, receive, sent) -> None:
        """What one sends waits for its own commit, whatever another one has open."""
        require("postgresql")  # SQLite has one writer.
        is_open, is_done = threading.Event(), threading.Event()

        def in_a_block() -> None:
            with (
                contextlib.closing(connections["postgresql"]),
                transaction.atomic(using="postgresql"),
            ):
                signal.send(sender=None, using="postgresql", n=1)
                is_open.set()
                assert is_done.wait(30)

        thread = threading.Thread(target=contextvars.copy_context().run, args=[in_a_block])
        thread.start()
        assert is_open.wait(30)
        signal.send(sender=None, using="postgresql", n=2)
        with pytest.raises(Undo), transaction.atomic(using="postgresql"):
            signal.send(sender=None, using="postgresql", n=3)
            raise Undo
        assert numbers(sent) == [2]
        is_done.set()
        thread.join(30)
        assert numbers(sent) == [2, 1]

    def test_a_connection_that_was_put_in_the_place_of_another(self, receive, sent) -> None:
        """As test servers do: events wait for the transaction of the one that is there."""
        with transaction.atomic():
            signal.send(sender=None, using="default", n=1)
        old = connections["default"]
        connections["default"] = old.copy()
        try:
            with transaction.atomic():
                signal.send(sender=None, using="default", n=2)
                assert numbers(sent) == [1]
            assert numbers(sent) == [1, 2]
        finally:
            connections["default"].close()
            connections["default"] = old


@pytest.mark.django_db(databases="__all__", transaction=True)
class TestLookUp:
    def test_it_finds_what_django_does(self) -> None:
        """In a thread, in a coroutine of it, in another thread, and after it was replaced."""

        def look() -> list[object]:
            found = [connection_to(alias) for alias in connections]
            assert found == [*connections.all()]
            assert all(one is other for one, other in zip(found, connections.all(), strict=True))
            return found

        async def view() -> list[object]:
            return look()

        here, coroutines = look(), asyncio.run(view())
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(look).result(timeout=10)
        assert {*here}.isdisjoint([*coroutines, *there])
        old = connections["default"]
        connections["default"] = old.copy()
        assert look()[0] is not old
        connections["default"] = old
        assert look() == here
        with pytest.raises(ConnectionDoesNotExist):
            connection_to("nobody")

    def test_django_is_asked_where_asgiref_has_changed(self, monkeypatch) -> None:
        """Nothing depends on what it keeps to itself."""

        class Renamed:
            real = connections._connections

            def __getattr__(self, name: str) -> object:
                if name == "_storage":
                    raise AttributeError(name)
                return getattr(self.real, name)

        expected = connections["default"]
        monkeypatch.setattr(connections, "_connections", Renamed())
        assert connection_to("default") is expected


@pytest.mark.django_db(transaction=True)
class TestNeighbours:
    def test_a_callback_that_raises_after_ours_changes_nothing(self, receive, sent) -> None:
        """The user's own callbacks may fail; ours have left."""
        with pytest.raises(Undo), transaction.atomic():
            signal.send(sender=None, n=1)
            transaction.on_commit(lambda: (_ for _ in ()).throw(Undo))
            signal.send(sender=None, n=2)

        assert numbers(sent) == [1, 2]

    def test_a_callback_that_raises_before_ours_does_not_either(self, receive, monkeypatch) -> None:
        """The event is committed: Django's rule for callbacks does not lose it."""
        sent, called = [], []
        monkeypatch.setattr(
            "async_signals.sending.outlet.publish",
            lambda messages: sent.extend(each for m in messages for each in m.envelopes) or [],
        )
        with pytest.raises(Undo), transaction.atomic():
            transaction.on_commit(lambda: called.append("robust"), robust=True)
            transaction.on_commit(lambda: (_ for _ in ()).throw(Undo))
            signal.send(sender=None, n=1)
            with transaction.atomic():
                signal.send(sender=None, n=2)

        assert numbers(sent) == [1, 2]
        assert called == ["robust"]

    def test_ours_never_stops_another(self, receive, monkeypatch, caplog) -> None:
        """A publish that fails in a way that nobody thought of leaves other callbacks alone."""

        def explode(messages) -> None:
            raise RuntimeError("nobody thought of this")

        called = []
        monkeypatch.setattr("async_signals.sending.outlet.publish", explode)
        with transaction.atomic():
            signal.send(sender=None, n=1)
            transaction.on_commit(lambda: called.append(1))

        assert called == [1]
        assert "nobody thought of this" in caplog.text


@pytest.mark.django_db(transaction=True)
class TestErrorsInTests:
    def test_the_end_of_a_transaction_raises_them(self, connect) -> None:
        """Inline receivers all run, and what they raise reaches the test."""
        ran = []

        def receive(n, **kwargs) -> None:
            ran.append(n)
            if n < 3:
                raise LookupError(n)

        connect(signal, receive)
        with (
            pytest.raises(ExceptionGroup, match="2 deliveries failed"),
            testing.run_inline(),
            transaction.atomic(),
        ):
            for n in (1, 2, 3):
                signal.send(sender=None, n=n)

        assert ran == [1, 2, 3]

    def test_whatever_an_earlier_transaction_has_left(self, connect, monkeypatch) -> None:
        """Also while something keeps a callback of it, as a traceback may."""

        def receive(**kwargs) -> None:
            raise ValueError("the receiver's own")

        connect(signal, receive)
        monkeypatch.setattr("async_signals.sending.outlet.publish", lambda messages: [])
        with transaction.atomic():
            signal.send(sender=None)
            kept = transaction.get_connection().run_on_commit[-1]

        with testing.run_inline(), pytest.raises(ValueError, match="own"), transaction.atomic():
            signal.send(sender=None)
        assert kept

    def test_eager_tasks_propagate_after_all_have_run(self, connect) -> None:
        """``task_eager_propagates``: every receiver runs, then the error is raised."""
        ran = []

        def receive(n, **kwargs) -> None:
            ran.append(n)
            if n == 1:
                raise LookupError(n)

        connect(signal, receive)
        app.conf.update(task_always_eager=True, task_eager_propagates=True)
        try:
            with pytest.raises(LookupError), transaction.atomic():
                for n in (1, 2):
                    signal.send(sender=None, n=n)
        finally:
            app.conf.update(task_always_eager=False, task_eager_propagates=False)

        assert ran == [1, 2]


@pytest.fixture
def atomic_requests():
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
class TestAtomicRequests:
    def test_a_request_that_succeeds_sends(self, atomic_requests, connect, sent) -> None:
        """With ATOMIC_REQUESTS the delivery leaves when the request has committed."""

        def receive(**kwargs) -> None: ...

        connect(post_save, receive, sender=Article)
        Client().get("/save/", {"title": "kept"})

        assert len(sent) == 1
        assert Article.objects.filter(title="kept").exists()

    def test_a_request_that_fails_sends_nothing(self, atomic_requests, connect, sent) -> None:
        """The request is rolled back, and with it the event."""

        def receive(**kwargs) -> None: ...

        connect(post_save, receive, sender=Article)
        Client(raise_request_exception=False).get("/save/", {"title": "lost", "fail": 1})

        assert sent == []
        assert not Article.objects.filter(title="lost").exists()


def receive_in_tests(**kwargs) -> None:
    """A receiver for the test cases below."""


class InTestCase(TestCase):
    """Inside Django's own TestCase, as in the tests of a site."""

    @classmethod
    def setUpTestData(cls) -> None:
        from async_signals import connect

        connect(signal, receive_in_tests)
        signal.send(sender=None, n=0)

    @classmethod
    def tearDownClass(cls) -> None:
        signal.disconnect(receive_in_tests)
        super().tearDownClass()

    def test_nothing_commits_nothing_leaves(self) -> None:
        """A TestCase never commits, so nothing is sent: as with every on_commit."""
        with testing.capture() as sent:
            signal.send(sender=None, n=1)
        self.assertEqual(sent, [])

    def test_captured_callbacks_send(self) -> None:
        """``captureOnCommitCallbacks(execute=True)`` sends just what was sent inside it."""
        with testing.capture() as sent:
            signal.send(sender=None, n=1)
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                signal.send(sender=None, n=2)
                signal.send(sender=None, n=3)
        self.assertEqual(numbers(sent), [2, 3])
        self.assertEqual(len(callbacks), 2)


class InTransactionTestCase(TransactionTestCase):
    """Inside TransactionTestCase everything is as in production."""

    def test_commit_sends(self) -> None:
        """It commits for real, and so it sends."""
        from async_signals import connect

        connect(signal, receive_in_tests)
        self.addCleanup(signal.disconnect, receive_in_tests)
        with testing.capture() as sent, transaction.atomic():
            signal.send(sender=None, n=1)
        self.assertEqual(numbers(sent), [1])


@pytest.mark.django_db(transaction=True, databases="__all__")
class TestFailureInSend:
    def test_what_cannot_be_sent_leaves_nothing_behind(self, receive, sent, caplog) -> None:
        """An event that raises at send is not half-sent at commit."""
        from async_signals import SerializationError

        with caplog.at_level(logging.ERROR), transaction.atomic():
            with pytest.raises(SerializationError):
                signal.send(sender=None, n=1, bad=object())
            signal.send(sender=None, n=2)

        assert numbers(sent) == [2]

    @pytest.mark.parametrize("robust", [False, True])
    def test_an_error_that_is_kept_keeps_no_event(
        self, alias, connect, settings, monkeypatch, robust
    ) -> None:
        """What a rolled-back block has sent is not sent, whoever holds on to an error of it."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}
        sent, kept = [], []
        monkeypatch.setattr("async_signals.sending.outlet.publish", lambda m: sent.extend(m) or [])

        def receive(**kwargs) -> None: ...

        connect(signal, receive, robust=robust)
        gc.disable()  # Where nobody collects, what has a circle stays, too.
        try:
            with transaction.atomic(using=alias):
                with contextlib.suppress(Undo), transaction.atomic(using=alias):
                    signal.send(sender=None, using=alias, n=1)
                    try:
                        signal.send(sender=None, using=alias, n=2, text="x" * 2000)
                    except MessageTooLargeError as exc:
                        kept.append(exc)
                    raise Undo
                signal.send(sender=None, using=alias, n=3)
        finally:
            gc.enable()
        assert [each.kwargs["n"] for message in sent for each in message.envelopes] == [3]
        assert len(kept) == (not robust)


@pytest.mark.django_db(transaction=True)
class TestComingFirst:
    """A callback of the site that raises keeps no delivery back, wherever savepoints were."""

    def test_with_savepoints_and_many_callbacks(self, connect, monkeypatch) -> None:
        """Rolled back ones stay so, all others leave, and thousands take no time."""
        published = []
        monkeypatch.setattr(
            "async_signals.sending.outlet.publish",
            lambda messages: (
                published.extend(m.envelopes[0].kwargs["number"] for m in messages) or []
            ),
        )
        signal = Signal()

        def receive(**kwargs): ...

        def explode():
            raise LookupError

        connect(signal, receive)
        with pytest.raises(LookupError), transaction.atomic():
            transaction.on_commit(explode)
            signal.send(None, number=1)
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                transaction.on_commit(explode)
                signal.send(None, number=2)
                1 / 0  # noqa: B018
            transaction.on_commit(explode)
            begun = time.thread_time()
            for number in range(3, 3003):
                signal.send(None, number=number)
            assert time.thread_time() - begun < 3
        assert published == [1, *range(3, 3003)]
        published.clear()
        with transaction.atomic():
            signal.send(None, number=1)
        assert published == [1]

    @pytest.mark.parametrize("durable", [False, True])
    def test_what_cannot_be_sent(self, connect, durable) -> None:
        """Its failure is recorded and told of, whatever callbacks of the site's raise."""
        signal, told = Signal(), []

        def receive(**kwargs): ...

        def hear(delivery, **kwargs):
            told.append(delivery.id)

        def explode():
            raise LookupError

        connect(signal, receive, name=f"tests.first.{new_id()}", robust=True, durable=durable)
        delivery_failed.connect(hear)
        try:
            with pytest.raises(LookupError), transaction.atomic():
                transaction.on_commit(explode)
                for _ in range(3):
                    signal.send(None, bad=object())
        finally:
            delivery_failed.disconnect(hear)
        rows = Delivery.objects.filter(state="failed", pk__in=told)
        assert len(told) == rows.count() == 3

    def test_callbacks_that_are_called_at_once(self, connect, monkeypatch) -> None:
        """Where a site's test puts a function of its own in Django's place, nothing is moved."""
        signal, called = Signal(), []

        def receive(**kwargs): ...

        connect(signal, receive, name=f"tests.first.{new_id()}", durable=True)
        with transaction.atomic():
            transaction.on_commit(lambda: called.append("first"))
            transaction.on_commit(lambda: called.append("second"), robust=True)
            with monkeypatch.context() as patch:
                patch.setattr(transaction, "on_commit", lambda call, **options: call())
                signal.send(None, bad=object())  # Its failure is told by a callback.
        assert called == ["first", "second"]
