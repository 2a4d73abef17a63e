"""All durable deliveries of a transaction are written at once, right before its commit."""

from __future__ import annotations

import contextlib
import functools
import threading
from unittest import mock

import pytest
from django.db import DEFAULT_DB_ALIAS, DatabaseError, IntegrityError, connections, transaction
from django.db.transaction import TransactionManagementError
from django.dispatch import Signal
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from async_signals import testing
from async_signals.ids import new_id
from async_signals.ledger import inserts, outgoing
from async_signals.models import Delivery, Event
from async_signals.sending import outbox
from async_signals.wire.envelope import load
from tests.testapp.models import Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
#: Django 6.1 has given it another name.
savepoint = getattr(transaction, "savepoint_create", transaction.savepoint)


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture(autouse=True)
def receive(connect):
    """A durable receiver that is never run."""

    def receive(**kwargs) -> None: ...

    connect(done, receive, name=f"tests.hook.{new_id()}", durable=True)
    with testing.capture():
        yield receive


@pytest.fixture
def connection(alias):
    """The database's connection, on which nothing of ours is left behind."""
    connection = connections[alias]
    connection.ensure_connection()
    before = {*vars(connection)}
    yield connection
    assert {*vars(connection)} <= before


def send(alias, *numbers) -> None:
    for n in numbers:
        done.send(None, using=alias, n=n)


def stored(alias) -> list[int]:
    rows = Delivery.objects.using(alias).order_by("pk")
    return [load(row.envelope).kwargs["n"] for row in rows]


def tags(alias) -> list[str]:
    return sorted(Tag.objects.using(alias).values_list("name", flat=True))


def statements(alias, *numbers) -> list[str]:
    """Send in a transaction; return the first words of its statements."""
    with CaptureQueriesContext(connections[alias]) as queries, transaction.atomic(using=alias):
        send(alias, *numbers)
    return [query["sql"].split()[0] for query in queries]


class TestStatements:
    def test_one_event_and_a_thousand(self, alias, monkeypatch) -> None:
        """Two inserts and nothing else, as long as the database takes all in one statement."""
        send(alias, 0)  # What a process does once.
        few, many = 2, 100

        assert statements(alias, *range(few)) == statements(alias, *range(many))
        assert statements(alias, 1).count("INSERT") == 2
        assert Delivery.objects.using(alias).count() == 1 + few + many + 1
        if alias == "postgresql":
            assert statements(alias, *range(1000)) == statements(alias, 1)

    def test_more_than_a_statement_takes(self, alias, monkeypatch) -> None:
        """Rows, and the length of all of them, are bounded for each statement."""
        monkeypatch.setattr(inserts, "MAX_ROWS", 3)
        assert statements(alias, *range(7)).count("INSERT") == 6

        monkeypatch.undo()
        monkeypatch.setattr(outgoing, "MAX_TEXT", 1)
        assert statements(alias, *range(7, 10)).count("INSERT") == 1 + 3
        assert stored(alias) == [*range(10)]

    def test_nothing_is_read_or_updated(self, alias) -> None:
        """What is published needs no mark afterwards."""
        assert {*statements(alias, 1, 2)} <= {"BEGIN", "INSERT", "COMMIT"}

    def test_receivers_of_one_event_share_it(self, alias, connect) -> None:
        """One event, however many durable receivers it has."""
        for _ in range(3):
            connect(done, lambda **kwargs: None, name=f"tests.hook.{new_id()}", durable=True)

        with transaction.atomic(using=alias):
            send(alias, 1)

        count = Event.objects.using(alias).count(), Delivery.objects.using(alias).count()
        assert count[0] == 1
        assert count[1] >= 1

    @pytest.mark.parametrize(
        "text", ["", "'; --", 'q"\\', "a\nb\tc", "äöü €", "x" * 40_000, "{1,2}"]
    )
    def test_texts_arrive_as_they_are(self, alias, text) -> None:
        """Whatever databases quote."""
        with transaction.atomic(using=alias):
            send(alias, text)

        assert stored(alias) == [text]


class TestTransaction:
    def test_written_at_the_end(self, alias, connection) -> None:
        """Inside of the block there is nothing yet; after it there is all, in its order."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            with transaction.atomic(using=alias):
                send(alias, 2)
            send(alias, 3)
            assert stored(alias) == []
            assert "commit" in vars(connection)
        assert stored(alias) == [1, 2, 3]

    def test_rolled_back_savepoints(self, alias, connection) -> None:
        """What Django would not call the callbacks of is not written."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            with contextlib.suppress(Undo), transaction.atomic(using=alias):
                send(alias, 2)
                with transaction.atomic(using=alias):
                    send(alias, 3)
                raise Undo
            with transaction.atomic(using=alias, savepoint=False):
                send(alias, 4)
        assert stored(alias) == [1, 4]

    def test_savepoints_by_hand(self, alias, connection) -> None:
        """Django keeps the callbacks of those; what they undo is not written all the same."""
        with transaction.atomic(using=alias):
            before = savepoint(using=alias)
            send(alias, 1)
            with transaction.atomic(using=alias):
                send(alias, 2)
                inner = savepoint(using=alias)
                send(alias, 3)
                with transaction.atomic(using=alias):
                    send(alias, 4)
                transaction.savepoint_rollback(inner, using=alias)
                send(alias, 5)
                transaction.savepoint_commit(inner, using=alias)
            transaction.savepoint_commit(before, using=alias)
            last = savepoint(using=alias)
            transaction.savepoint_rollback(last, using=alias)
        assert stored(alias) == [1, 2, 5]
        with transaction.atomic(using=alias):
            first = savepoint(using=alias)
            send(alias, 6)
            transaction.savepoint_rollback(first, using=alias)
        assert stored(alias) == [1, 2, 5]

    def test_savepoints_that_are_counted_anew(self, alias, connection) -> None:
        """After ``clean_savepoints()``, what is undone is what was sent since, and nothing else."""
        with transaction.atomic(using=alias):
            released = savepoint(using=alias)
            send(alias, 1)
            transaction.savepoint_commit(released, using=alias)
            transaction.clean_savepoints(using=alias)
            for n in (2, 3):
                with contextlib.suppress(Undo), transaction.atomic(using=alias):
                    send(alias, n)
                    raise Undo
            send(alias, 4)
        assert stored(alias) == [1, 4]

    def test_savepoints_that_were_counted_anew_before(self, alias, connection) -> None:
        with transaction.atomic(using=alias):
            savepoint(using=alias)
            first = savepoint(using=alias)
            transaction.clean_savepoints(using=alias)
            send(alias, 1)
            transaction.savepoint_rollback(first, using=alias)
            send(alias, 2)
        assert stored(alias) == [2]

    def test_a_rollback(self, alias, connection) -> None:
        """Nothing is written, nor with the next transaction."""
        with contextlib.suppress(Undo), transaction.atomic(using=alias):
            send(alias, 1)
            raise Undo
        assert "commit" not in vars(connection)
        with transaction.atomic(using=alias):
            Tag.objects.using(alias).create(name="a")
        assert (stored(alias), tags(alias)) == ([], ["a"])

    def test_durable_blocks(self, alias, connection) -> None:
        """Django's own ``atomic(durable=True)`` is a block as any other."""
        with transaction.atomic(using=alias, durable=True):
            send(alias, 1)
        assert stored(alias) == [1]

    def test_a_commit_by_hand_is_refused_as_ever(self, alias, connection) -> None:
        """Django's error stays, and nothing is written too early."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            for end in (transaction.commit, transaction.rollback):
                with pytest.raises(TransactionManagementError):
                    end(using=alias)
            assert stored(alias) == []
            send(alias, 2)
        assert stored(alias) == [1, 2]

    def test_threads_have_their_own(self, alias) -> None:
        """A transaction of another thread neither writes ours nor takes our hook away."""
        if alias == DEFAULT_DB_ALIAS:
            pytest.skip("SQLite has one writer")

        def work():
            try:
                with transaction.atomic(using=alias):
                    send(alias, 2)
            finally:
                connections[alias].close()

        with transaction.atomic(using=alias):
            send(alias, 1)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(30)
            assert stored(alias) in ([2], [])  # As far as this transaction sees others.
        assert sorted(stored(alias)) == [1, 2]

    def test_a_callback_that_sends(self, alias, connection) -> None:
        """After the commit it is in autocommit, and stored at once."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            transaction.on_commit(lambda: send(alias, 2), using=alias)
        assert stored(alias) == [1, 2]


class TestFaults:
    def test_what_cannot_be_written_rolls_back(self, alias, connection, monkeypatch) -> None:
        """Whatever is raised: the data goes, and the sender's block raises it."""
        for exc in (IntegrityError("no"), RuntimeError("a bug"), KeyboardInterrupt()):
            with monkeypatch.context() as patch:
                patch.setattr(outgoing, "insert_events", raiser(exc))
                with pytest.raises(type(exc)), transaction.atomic(using=alias):
                    Tag.objects.using(alias).create(name="a")
                    send(alias, 1)
            assert (tags(alias), stored(alias)) == ([], [])
            assert connection.get_autocommit()
        with transaction.atomic(using=alias):
            send(alias, 2)
        assert stored(alias) == [2]

    def test_half_written_rolls_back(self, alias, connection, monkeypatch) -> None:
        """Events are inserted, deliveries are not: neither stays."""
        monkeypatch.setattr(outgoing, "_insert_deliveries", raiser(DatabaseError("no")))
        with pytest.raises(DatabaseError), transaction.atomic(using=alias):
            send(alias, 1)
        assert not Event.objects.using(alias).exists()

    def test_the_commit_itself_fails(self, alias, connection, monkeypatch) -> None:
        """What was written goes with the data, and nothing is published."""
        with monkeypatch.context() as patch, testing.capture() as published:
            patch.setattr(connection, "_commit", raiser(DatabaseError("the disk is full")))
            with pytest.raises(DatabaseError), transaction.atomic(using=alias):
                Tag.objects.using(alias).create(name="a")
                send(alias, 1)
        assert (tags(alias), stored(alias), published) == ([], [], [])

    def test_an_interrupt_between_block_and_commit(self, alias, connection, monkeypatch) -> None:
        """Some drivers commit when autocommit is turned on: not data without its deliveries."""

        def interrupt(*args):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), transaction.atomic(using=alias):
            Tag.objects.using(alias).create(name="a")
            send(alias, 1)
            hook = vars(connection)["commit"]
            # As if it came before the hook's first line.
            connection.commit = interrupt
        assert (tags(alias), stored(alias)) == ([], [])
        assert hook
        vars(connection).pop("commit", None)

    def test_a_closed_connection(self, alias, connection) -> None:
        """Its transaction is gone, as are its deliveries, and the next one is clean."""
        with contextlib.suppress(Undo, DatabaseError), transaction.atomic(using=alias):
            send(alias, 1)
            connection.close()
            assert "commit" not in vars(connection)
            raise Undo
        with transaction.atomic(using=alias):
            send(alias, 2)
        assert stored(alias) == [2]

    def test_a_query_that_is_not_allowed(self, alias, connection) -> None:
        """A wrapper of the site's sees our statements, too; its refusal is one."""

        def refuse(execute, sql, params, many, context):
            raise Undo

        with (
            contextlib.ExitStack() as stack,
            pytest.raises(Undo),
            transaction.atomic(using=alias),
        ):
            Tag.objects.using(alias).create(name="a")
            send(alias, 1)
            stack.enter_context(connection.execute_wrapper(refuse))
        assert (tags(alias), stored(alias)) == ([], [])


def raiser(exc):
    def fail(*args, **kwargs):
        raise exc

    return fail


class TestSimpleForm:
    """Where Django's own commit cannot be relied upon, each event is written at its send."""

    def test_a_commit_of_somebody_elses(self, alias, connection, monkeypatch) -> None:
        """On the connection, or in its class: it stays, and is called."""
        commits = []

        def commit(*args):
            commits.append(args)
            return type(connection).__mro__[1].commit(connection)

        for target in (connection, type(connection)):
            with monkeypatch.context() as patch:
                patch.setattr(target, "commit", commit)
                with transaction.atomic(using=alias):
                    send(alias, 1)
                    assert len(stored(alias)) == len(commits) + 1
        assert len(commits) == 2

    def test_what_is_put_back_after_its_time(self, alias, connection) -> None:
        """As the end of a mock does that outlives its block: it is nobody's commit of today."""
        with transaction.atomic(using=alias):
            send(alias, 1)
            patch = mock.patch.object(connection, "commit", wraps=connection.commit)
            patch.start()
        patch.stop()

        with transaction.atomic(using=alias):
            send(alias, 2)
            undone = savepoint(using=alias)
            send(alias, 3)
            transaction.savepoint_rollback(undone, using=alias)
        assert stored(alias) == [1, 2]

    def test_callbacks_of_somebody_elses(self, alias, connection, monkeypatch) -> None:
        """Where callbacks are wrapped, nobody could tell which event one belongs to."""
        on_commit = transaction.on_commit

        def wrapped(func, using=None, robust=False):
            on_commit(functools.partial(func), using=using, robust=robust)

        monkeypatch.setattr(transaction, "on_commit", wrapped)
        with transaction.atomic(using=alias):
            send(alias, 1)
            send(alias, 2)
            assert stored(alias) == [1, 2]
        assert stored(alias) == [1, 2]

    def test_autocommit(self, alias, connection) -> None:
        """There is nothing to wait for."""
        send(alias, 1)
        assert stored(alias) == [1]

    def test_manual_transactions(self, alias, connection) -> None:
        """With autocommit off, inside of ``atomic()`` and outside."""
        transaction.set_autocommit(False, using=alias)
        try:
            send(alias, 1)
            with transaction.atomic(using=alias):
                send(alias, 2)
                assert stored(alias) == [1, 2]
            transaction.commit(using=alias)
        finally:
            transaction.set_autocommit(True, using=alias)
        assert stored(alias) == [1, 2]

    def test_a_block_that_is_rolled_back_anyhow(self, alias, connection) -> None:
        """Django refuses queries in it, as at any send."""
        with contextlib.suppress(Undo), transaction.atomic(using=alias):
            transaction.set_rollback(True, using=alias)
            with pytest.raises(TransactionManagementError):
                send(alias, 1)
            raise Undo
        assert stored(alias) == []

    def test_captured_callbacks_of_an_open_transaction(self, alias, connection) -> None:
        """What is run before its commit is stored before it is published."""
        with testing.capture() as sent, transaction.atomic(using=alias):
            with TestCase.captureOnCommitCallbacks(using=alias, execute=True):
                send(alias, 1)
            assert [each.kwargs["n"] for each in sent] == [1]
            assert stored(alias) == [1]
        assert stored(alias) == [1]
        assert len(sent) == 1


class TestInTestCase(TestCase):
    databases = "__all__"

    def test_rows_are_there_at_once(self) -> None:
        """``TestCase`` never commits: a test sees the row where the event was sent."""
        for alias in connections:
            with transaction.atomic(using=alias):
                send(alias, 1)
                assert stored(alias) == [1]
                assert "commit" not in vars(connections[alias])


def test_what_is_marked_for_a_relay(alias, connect) -> None:
    """What its sender does not publish says so: a countdown, and autocommit turned off."""
    late = Signal()
    connect(late, lambda **kwargs: None, name=f"tests.hook.{new_id()}", durable=True, countdown=30)
    assert outbox.GRACE < 30
    with transaction.atomic(using=alias):
        late.send(None, using=alias, n=1)
        send(alias, 2)

    found = Delivery.objects.using(alias).order_by("pk").values_list("state", "publishes")
    assert list(found)[-1:] == [("published", 1)]


@pytest.mark.parametrize("name", ["box0", "mine"])
def test_a_savepoint_with_a_name_of_its_own(alias, connection, name) -> None:
    """Nobody knows when it was made: as with Django's callbacks, no earlier event is forgotten."""
    with transaction.atomic(using=alias):
        send(alias, 1)
        with connection.cursor() as cursor:
            cursor.execute(f"SAVEPOINT {name}")
        transaction.savepoint_rollback(name, using=alias)

    assert stored(alias) == [1]


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["NUL", "a half of a letter"])
def test_labels_that_databases_refuse(alias, connection, text) -> None:
    """They are told without it; nobody's transaction fails over a label for people."""
    with transaction.atomic(using=alias):
        done.send(text, using=alias, n=1)

    assert stored(alias) == [1]
    assert Event.objects.using(alias).get().sender == "ab"
