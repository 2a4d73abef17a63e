"""The database refuses what is right: deadlocks, serialization failures, ended statements."""

from __future__ import annotations

import time
import uuid

import pytest
from django.db import connections, transaction

from async_signals.ledger import pausing
from async_signals.ledger.clock import Now
from async_signals.models import Attempt, Claim, Delivery
from tests.conftest import require
from tests.testproject.routers import LedgerElsewhere

from .oracle import USING, Run, captured, wait_until
from .scale import in_modes, scaled

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]


class TestConflicts:
    @in_modes("robust", "durable")
    def test_a_deadlock_at_the_record(self, rig, mode, ledger) -> None:
        """The database sacrifices the worker: it writes again."""
        rig.use("redis")
        worker = rig.worker()
        run = Run("14 a deadlock", mode)
        run.send([0], orders=["raise"])  # Its group is there from now on.
        run.wait_until_delivered()
        deadlocks = conflicts("deadlocks")
        envelope = captured(run, 1, orders=["raise"])

        with transaction.atomic(using=USING), connections[USING].cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '60s'")  # Not this one.
            cursor.execute("SELECT * FROM async_signals_failuregroup FOR UPDATE")
            rig.publish_again([envelope], 1)
            wait_until(waiting_for_a_lock, what="the worker's wait")
            # It holds what it has claimed by now, and waits for the group.
            cursor.execute("UPDATE async_signals_claim SET worker = worker WHERE NOT done")
            cursor.execute(
                "UPDATE async_signals_delivery SET worker = worker WHERE state = 'running'"
            )

        run.wait_until_delivered()
        wait_until(lambda: conflicts("deadlocks") > deadlocks, what="a deadlock")
        assert worker.is_alive
        self.assert_both_have_succeeded(run, ledger)

    @pytest.mark.parametrize("mode", ["robust", "durable"])
    def test_a_serialization_failure_at_the_record(self, rig, mode, ledger) -> None:
        """In REPEATABLE READ a row that has changed meanwhile ends the transaction: again."""
        rig.use("redis")
        rig.worker(PGOPTIONS="-c default_transaction_isolation=repeatable\\ read")
        run = Run("14 a serialization failure", mode)
        run.send([0], orders=["raise"])
        run.wait_until_delivered()
        envelope = captured(run, 1, orders=["raise"])

        with transaction.atomic(using=USING), connections[USING].cursor() as cursor:
            cursor.execute("UPDATE async_signals_failuregroup SET last_at = now()")
            rig.publish_again([envelope], 1)
            wait_until(waiting_for_a_lock, what="the worker's wait")

        run.wait_until_delivered()
        self.assert_both_have_succeeded(run, ledger)

    @in_modes("robust", "durable")
    def test_a_claim_that_is_refused(self, rig, mode, monkeypatch) -> None:
        """MariaDB: the statement waits for another's lock, and is ended while it does."""
        require("mariadb")
        monkeypatch.setattr(LedgerElsewhere, "alias", "mariadb")
        pausing.forget()
        rig.use("redis")
        rig.worker()
        run = Run("14 a refused claim, mariadb", mode, using="mariadb")
        envelope = captured(run, 0)
        key = uuid.UUID(envelope.id).hex

        with transaction.atomic(using="mariadb"), connections["mariadb"].cursor() as cursor:
            if mode == "robust":
                claim = {"receiver": envelope.receiver, "expires_at": Now(), "started_at": Now()}
                Claim.objects.using("mariadb").create(id=envelope.id, **claim)
            else:
                list(Delivery.objects.using("mariadb").select_for_update())
            rig.publish_again([envelope], 1, using="mariadb")
            last = 0
            for _ in range(2):  # Each try is made on another connection.
                last = wait_until(
                    lambda last=last: waits_on_mariadb(cursor, key, last), what="a claim that waits"
                )
                cursor.execute(f"KILL QUERY {last}")
            transaction.set_rollback(True, using="mariadb")

        run.wait_until_delivered()
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (1, 0, 0)
        assert len(run.written("start")) == 1

    def assert_both_have_succeeded(self, run, ledger) -> None:
        outcomes = Attempt.objects.using(ledger).values_list("outcome", flat=True)
        wait_until(lambda: len(outcomes.all()) == 4, what="the record of all attempts")
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        assert sorted(outcomes) == ["raised", "raised", "succeeded", "succeeded"]


def found(cursor, sql: str, *parameters: object) -> tuple | None:
    cursor.execute(sql, parameters)
    return cursor.fetchone()


def waits_on_mariadb(cursor, key: str, last: int) -> int | None:
    """Return which connection, above *last*, waits for a lock with *key* in its statement."""
    time.sleep(0.15)  # The server does not look again for who asks more often.
    sql = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
    sql += "WHERE trx_state = 'LOCK WAIT' AND trx_mysql_thread_id > %s "
    row = found(cursor, f"{sql} AND INSTR(REPLACE(trx_query, '-', ''), %s)", last, key)
    return row and row[0]


def waiting_for_a_lock() -> int:
    """How many sessions of this database wait for a lock."""
    with connections[USING].cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


def conflicts(column: str) -> int:
    with connections[USING].cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
