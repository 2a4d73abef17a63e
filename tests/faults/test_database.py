"""The database fails, at send, in the worker, or in the middle of writing down a result."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from django.db import Error, OperationalError, connections, transaction

from async_signals.ledger import pausing
from async_signals.models import Attempt, Claim, Delivery
from tests.testproject.routers import LedgerElsewhere

from .oracle import USING, Run, captured, let_time_pass, wait_until
from .scale import in_modes, scaled

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]

#: Seconds that a database is away: longer than a worker is patient without letting go.
AWAY = scaled(5, 60)


class TestDownInTheWorker:
    @in_modes("robust")
    def test_before_a_claim(self, rig, some_kind, mode, ledger) -> None:
        """The message stays with the broker until the ledger is back."""
        rig.use(some_kind)
        proxy = rig.proxy("postgresql")
        worker = rig.worker(ASYNC_SIGNALS_TEST_POSTGRESQL_PORT=str(proxy.port))
        run = Run(f"12 no database in the worker, {some_kind}", mode)
        run.send(range(5))
        done = Claim.objects.filter(done=True)  # What is stored has its row for a receipt.
        if mode != "robust":
            done = Delivery.objects.filter(state="succeeded")
        # After their effects.
        wait_until(lambda: done.using(ledger).count() == 5, what="the record of five")
        proxy.close()
        run.send(range(5, scaled(50, 10_000)))
        worker.wait_for_line("Cannot reach the ledger for")
        threading.Event().wait(AWAY)
        assert len(run.delivered) == 5, "the fault did not bite"
        tries = worker.output.count("Cannot reach the ledger for")
        assert tries <= 2 + AWAY * 2 * 2, "two processes, two tries a second at most"
        proxy.open()

        run.wait_until_delivered(scaled(60, 900))
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)

    @in_modes("once")
    def test_between_the_run_and_its_record(self, rig, mode, gates, ledger) -> None:
        """The effect was had and nobody knows: it runs again, once for each in flight."""
        rig.use("redis")
        proxy = rig.proxy("postgresql")
        worker = rig.worker(ASYNC_SIGNALS_TEST_POSTGRESQL_PORT=str(proxy.port))
        run = Run("12 no database at the record", mode)
        run.send(range(10), orders=[f"effect wait:2 hold:{gates[0].name}"])
        wait_until(lambda: len(run.written("effect")) == 2, what="the run of two")
        proxy.close()
        gates[0].unlink()
        worker.wait_for_line("Cannot reach the ledger for")
        proxy.open()

        run.wait_until_delivered(30)
        wait_until(lambda: len(run.written("start")) > 10, what="a second run")
        wait_until(lambda: not Claim.objects.using(ledger).filter(done=False).exists())
        wait_until(lambda: not Delivery.objects.using(ledger).exclude(state="succeeded").exists())
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert tally.lost == 0
        assert tally.twice <= (0 if mode == "once" else 2)
        assert len(run.written("effect")) > 10, "the fault did not bite"

    @in_modes("robust")
    def test_a_record_that_is_refused(self, rig, mode, gates, ledger) -> None:
        """
        A database that has become read-only: the claim keeps the delivery, then it runs again.

        The failure itself is not recorded; that its worker was lost is.
        """
        rig.use("redis")
        worker = rig.worker()
        run = Run("26 a read-only database", mode)
        run.send(range(4), orders=[f"hold:{gates[0].name} raise"])
        wait_until(lambda: len(run.written("start")) == 2, what="the run of two")
        try:
            make_read_only(is_on=True)
            gates[0].unlink()
            worker.wait_for_line("Cannot reach the ledger for")
            before = worker.output.count("Cannot reach the ledger for")
            threading.Event().wait(scaled(3, 30))
            tries = worker.output.count("Cannot reach the ledger for") - before
            assert tries <= scaled(3, 30) * 2 * 2, "two processes, two tries a second at most"
            assert run.delivered == set()
        finally:
            make_read_only(is_on=False)

        run.wait_until_delivered(30)
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        died = Attempt.objects.using(ledger).filter(outcome="died")
        assert 0 < died.count() <= 2


def make_read_only(*, is_on: bool) -> None:
    """Change it for every session but this one, which goes on."""
    connection = connections[USING]
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {is_on}")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class TestFullDisk:
    @in_modes("robust", "durable")
    def test_no_page_left_for_a_failure(self, rig, mode, monkeypatch) -> None:
        """SQLite at its limit of pages: what is in the ledger keeps the delivery."""
        monkeypatch.setattr(LedgerElsewhere, "alias", "default")
        pausing.forget()
        rig.use("redis")
        run = Run("26 SQLite is full", mode, using="default")
        with connections["default"].cursor() as cursor:
            cursor.execute("VACUUM")
            # The claim of what travels whole has room, and a second copy of it has none.
            text = "x" * (200_000 if mode == "robust" else 10)
            envelope = captured(run, 0, orders=[f"effect raise:{'x' * 20_000}"], text=text)
            cursor.execute("PRAGMA page_count")
            [pages] = cursor.fetchone()
        limit = f"PRAGMA max_page_count={pages + (60 if mode == 'robust' else 0)};"
        worker = rig.worker(ASYNC_SIGNALS_TEST_PRAGMA=limit)
        rig.publish_again([envelope], 1, using="default")
        worker.wait_for_line("database or disk is full")
        worker.kill()
        assert not Delivery.objects.filter(state="failed").exists()
        let_time_pass("default")
        rig.worker()

        rows = Delivery.objects.using("default").filter(state="succeeded")
        wait_until(rows.exists, timeout=scaled(30, 120), what="its success")
        tally = run.tally()
        # What the first run wrote into the database is undone with it, where effects are had once.
        assert (tally.committed, tally.lost, tally.twice) == (1, 0, 0 if mode == "once" else 1)
        if mode == "robust":  # The row of what is durable may have had the room.
            first = Attempt.objects.using("default").order_by("number").first()
            assert first.outcome == "died"


class TestDownAtSend:
    @in_modes("robust", "durable")
    def test_the_transaction_fails_as_ever(self, rig, mode, monkeypatch) -> None:
        """No commit, no event."""
        rig.use("redis")
        run = Run("13 no database at send", mode)
        connection, proxy = connections[USING], rig.proxy("postgresql")
        with pytest.MonkeyPatch.context() as patched:
            connection.close()
            patched.setitem(connection.settings_dict, "PORT", proxy.port)
            for number in range(scaled(3, 1_000)):
                with pytest.raises((OperationalError, Error)), transaction.atomic(using=USING):
                    run.send([number])
                    proxy.close()
                proxy.open()
                connection.close()
        connection.close()
        rig.worker()
        run.send([10_000])
        run.wait_until_delivered()

        tally = run.tally()
        assert (tally.committed, tally.lost, tally.rolled_back) == (1, 0, 0)

    @pytest.mark.parametrize("ending", ["it lives", "it is killed", "the worker was there"])
    def test_broker_and_ledger_are_gone(self, rig, ending, ledger) -> None:
        """Into the spool, and from there into the ledger: by the sender, or else by a relay."""
        database, broker = rig.proxy("postgresql"), rig.proxy("redis")
        rig.use("redis", broker.port)
        run = Run(f"12 no broker, no ledger; {ending}", "robust", using="default")
        count = scaled(20, 2_000)
        sender = rig.sender(run, 0, count, ASYNC_SIGNALS_TEST_POSTGRESQL_PORT=str(database.port))
        if ending == "the worker was there":
            rig.worker(ASYNC_SIGNALS_TEST_POSTGRESQL_PORT=str(database.port))
        database.close()
        broker.close()
        os.kill(sender.pid, signal.SIGUSR1)
        sender.wait_for_line("sent all", timeout=scaled(60, 900))
        assert len(list(rig.spool.glob("*.json"))) == count, "the fault did not bite"
        if ending != "it lives":
            sender.kill()
        database.open()
        broker.open()
        if ending == "it lives":
            wait_until(lambda: not list(rig.spool.glob("*.json")), what="the spool's end")
        if ending != "the worker was there":
            rig.worker()

        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (count, 0, 0)
        assert not list(rig.spool.glob("*"))
