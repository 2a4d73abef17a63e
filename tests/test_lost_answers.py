"""A database that commits and then goes away: what it has done counts, though nobody was told."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from django.core import mail
from django.db import OperationalError, connections, transaction
from django.dispatch import Signal

from async_signals import Retry, operations, registry, robust
from async_signals.ids import new_id
from async_signals.ledger import claims, due
from async_signals.ledger.deaths import take_dead_claims
from async_signals.models import Attempt, Claim, Delivery
from async_signals.signals import delivery_failed, delivery_succeeded
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference, dump, pack

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()


class MailServer:
    """A receiver that fails until it is repaired."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_down = True

    def __call__(self, **kwargs) -> None:
        self.calls += 1
        if self.is_down:
            msg = "the mail server is down"
            raise OSError(msg)


@pytest.fixture
def server(admins):
    return MailServer()


@pytest.fixture
def send(connect, sent, ledger, server):
    """Connect the receiver, send to it, and return its name and the message."""

    def connect_and_send(**options):
        name = f"tests.lost_answers.{new_id()}"
        connect(done, server, **({"name": name, "robust": True, "retry": ONCE} | options))
        done.send(None, number=7)
        return name, pack(sent)

    return connect_and_send


@pytest.fixture
def heard():
    """The ids of deliveries of which the end was announced."""
    ids = []

    def listen(delivery, **kwargs):
        ids.append(delivery.id)

    for signal in (delivery_failed, delivery_succeeded):
        signal.connect(listen)
    yield ids
    for signal in (delivery_failed, delivery_succeeded):
        signal.disconnect(listen)


ONCE, AGAIN = Retry(max_attempts=1), Retry(max_attempts=2, initial_delay=0)


def run(name, wire):
    return [result.state for result in robust.run(wire, name=name, worker="w@test/1")]


def relay(using):
    """Return what a relay publishes now, as one message."""
    ready, _, _ = due.take_due(using, receivers=registry.known(), limit=10)
    return pack([each.reference for each in ready])


class Losing:
    """Loses one answer of a database: of a commit, or of a statement that is committed itself."""

    def __init__(self, using: str, start: str, meanwhile: Callable[[], object]) -> None:
        self.meanwhile = meanwhile
        self.connection = connections[using]
        self.start = start  #: Of the statement; "" for a commit.
        self.lost = 0

    def statement(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if self.start and sql.startswith(self.start):
            self._lose_one()
        return result

    def commit(self):
        type(self.connection)._commit(self.connection)
        if not self.start:
            self._lose_one()

    def _lose_one(self) -> None:
        if not self.lost:
            self.lost += 1
            self.meanwhile()
            msg = "server closed the connection unexpectedly"
            raise OperationalError(msg)


@contextlib.contextmanager
def answer_lost(using: str, start: str = "", *, meanwhile: Callable[[], object] = lambda: None):
    """
    Let the answer to the first statement with this *start*, or to the first commit, be lost.

    What happens until that is noticed is *meanwhile*.
    """
    losing = Losing(using, start, meanwhile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losing.connection, "_commit", losing.commit, raising=False)
        with losing.connection.execute_wrapper(losing.statement):
            yield
    assert losing.lost == 1


class TestRecord:
    """The answer to the commit of a result is lost."""

    def test_a_failure_is_told_once(self, send, ledger, heard, caplog) -> None:
        """Of a delivery that travelled whole: its signal, its alert, and what Celery is told."""
        name, wire = send()

        with answer_lost(ledger):
            assert run(name, wire) == ["failed"]

        row = Delivery.objects.using(ledger).get()
        assert (row.state, row.attempts) == ("failed", 1)
        assert heard == [str(row.pk)]
        assert [each.subject for each in mail.outbox] == [f"[Django] {name} is failing: OSError"]
        assert "lease" not in caplog.text

    def test_of_a_delivery_with_a_row_too(self, send, ledger, heard) -> None:
        name, wire = send(retry=AGAIN)
        assert run(name, wire) == ["retrying"]

        again = relay(ledger)
        with answer_lost(ledger):
            assert run(name, again) == ["failed"]

        assert heard == [str(Delivery.objects.using(ledger).get().pk)]
        assert Attempt.objects.using(ledger).count() == 2

    def test_a_recovery_is_told(self, send, ledger, heard, server) -> None:
        name, wire = send()
        assert run(name, wire) == ["failed"]
        server.is_down = False
        operations.retry(Filter(receiver=name), by="ann")

        again = relay(ledger)
        with answer_lost(ledger):
            assert run(name, again) == ["succeeded"]

        assert len(heard) == 2
        assert "recovered" in mail.outbox[-1].subject

    def test_a_receipt_counts(self, send, ledger, heard, server) -> None:
        """Of what succeeds at once, and has no row."""
        server.is_down = False
        name, wire = send()
        start = "INSERT INTO async_signals_claim AS" if ledger == "postgresql" else "UPDATE async_"

        with answer_lost(ledger, start):
            assert run(name, wire) == ["succeeded"]

        assert len(heard) == 1
        assert not Delivery.objects.using(ledger).exists()

    def test_what_was_taken_away_does_not_count(self, connect, sent, ledger, heard) -> None:
        """The death that a relay has recorded meanwhile is not taken for the run's own result."""
        name = f"tests.lost_answers.{new_id()}"

        def receive(**kwargs):
            Claim.objects.using(ledger).update(expires_at=LONG_AGO)
            take_dead_claims(ledger, limit=10)

        connect(done, receive, name=name, robust=True)
        done.send(None)

        assert run(name, pack(sent)) == ["skipped"]
        assert heard == []


LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class TestClaim:
    """The answer to a claim is lost."""

    def test_one_that_travelled_whole_is_run(self, send, ledger, server) -> None:
        """By the worker that has claimed it, at once; nobody has died."""
        server.is_down = False
        name, wire = send()

        with answer_lost(ledger, "INSERT"):
            assert run(name, wire) == ["succeeded"]

        assert server.calls == 1
        assert Claim.objects.using(ledger).get().done
        assert not Delivery.objects.using(ledger).exists()

    @pytest.mark.parametrize("order", [{}, {"order_by": "number"}])
    def test_one_with_a_row_is_run(self, connect, sent, ledger, server, order) -> None:
        server.is_down = False
        name = f"tests.lost_answers.{new_id()}"
        connect(done, server, name=name, durable=True, **order)
        with transaction.atomic(using=ledger):
            done.send(None, number=7, using=ledger)
        row = Delivery.objects.using(ledger).get()
        reference = Reference(
            id=str(row.pk), receiver=name, epoch=0, using=ledger, ordered=bool(order)
        )

        with answer_lost(ledger, "" if order else "UPDATE"):
            assert run(name, pack([reference])) == ["succeeded"]

        assert server.calls == 1
        row.refresh_from_db()
        assert (row.state, row.epoch, row.deaths) == ("succeeded", 1, 0)

    def test_a_claim_whose_lease_is_over_is_not_run(self, send, ledger, server) -> None:
        """It took so long to learn of it that another worker may have the delivery."""
        server.is_down = False
        name, wire = send()

        def time_passes():
            Claim.objects.using(ledger).update(expires_at=LONG_AGO)

        with answer_lost(ledger, "INSERT", meanwhile=time_passes):
            assert run(name, wire) == ["skipped"]

        assert server.calls == 0
        assert [death.is_final for death in take_dead_claims(ledger, limit=10)] == [False]

    def test_what_this_process_had_claimed_before_is_not_run(
        self, send, sent, ledger, server
    ) -> None:
        """No result of it could be recorded: it has to wait for the lease, whatever it had done."""
        server.is_down = False
        name, wire = send()
        claims.claim(sent[0], dump(sent[0]), worker="w@test/1")

        with answer_lost(ledger, "INSERT"):
            assert run(name, wire) == ["skipped"]

        assert server.calls == 0

    def test_another_worker_does_not_run_it(self, send, ledger, server) -> None:
        """Who has not claimed it himself has to wait for the lease, as ever."""
        server.is_down = False
        name, wire = send()

        def it_is_anothers():
            Claim.objects.using(ledger).update(process="elsewhere:1:2:3")

        with answer_lost(ledger, "INSERT", meanwhile=it_is_anothers):
            assert run(name, wire) == ["skipped"]

        assert server.calls == 0


@pytest.mark.parametrize("is_down", [True, False])
def test_a_receiver_that_leaves_autocommit_off(connect, sent, ledger, is_down) -> None:
    """What became of it is recorded all the same, on a connection of its own."""
    name = f"tests.lost_answers.{new_id()}"

    def receive(**kwargs):
        transaction.set_autocommit(False, using=ledger)
        if is_down:
            raise OSError

    connect(done, receive, name=name, robust=True, retry=ONCE)
    done.send(None)

    assert run(name, pack(sent)) == ["failed" if is_down else "succeeded"]
    connections[ledger].close()  # As Celery does after the task.
    assert Claim.objects.using(ledger).get().done
    assert Attempt.objects.using(ledger).count() == int(is_down)
