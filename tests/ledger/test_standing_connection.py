"""Claims and receipts of a worker go over a connection of its own, whatever befalls it."""

from __future__ import annotations

import os

import pytest
from django.db import connections, transaction

from async_signals.delivery import at_work
from async_signals.ids import new_id
from async_signals.ledger import claims, receipts, standing_connection
from async_signals.ledger.patience import patiently
from async_signals.models import Claim
from async_signals.wire.envelope import dump

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def claim(ledger, envelope):
    """Claim a new delivery, as the process of a worker does."""
    if ledger == "default":
        pytest.skip("SQLite opens files in no time: no connection is kept")

    def claim_one():
        one = envelope._replace(id=new_id())
        return patiently(lambda: claims.claim(one, dump(one), worker="w@test/1"), ledger)

    token = at_work.set(True)
    yield claim_one
    at_work.reset(token)
    standing_connection._standing.pop((os.getpid(), ledger))._connection.close()


@pytest.fixture
def works(claim, ledger):
    """See that a delivery is claimed once, and its receipt written once."""

    def check():
        made = claim()
        rows = Claim.objects.using(ledger).filter(pk=made.envelope.id)
        assert [row.done for row in rows] == [False]
        assert claims.claim(made.envelope, made.text, worker="w@test/2") is None
        assert receipt_of(made)
        assert [(row.done, row.envelope) for row in rows.all()] == [(True, "")]
        assert not receipt_of(made)

    return check


def receipt_of(made) -> bool:
    return patiently(
        lambda: receipts.write_receipt(
            made.envelope.id, receiver=made.envelope.receiver, using=made.using
        ),
        made.using,
    )


def server_side(using):
    """The standing connection of this process, for what happens to it on the server."""
    return standing_connection._standing[os.getpid(), using]._connection


def test_it_is_not_the_sites(claim, works, ledger) -> None:
    """Celery closes that one after each task, and a receiver may do to it what it likes."""
    claim()
    connections[ledger].close()

    works()
    assert server_side(ledger) is not connections[ledger]


def test_a_connection_that_is_cut(claim, works, ledger) -> None:
    """The next statement opens another one."""
    claim()
    with server_side(ledger).cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid()" if ledger == "postgresql" else "SELECT CONNECTION_ID()"
        )
        (number,) = cursor.fetchone()
    with connections[ledger].cursor() as cursor:
        kill = "SELECT pg_terminate_backend(%s)" if ledger == "postgresql" else "KILL %s"
        cursor.execute(kill, [number])

    works()


def test_a_server_that_forgets_what_it_prepared(claim, works, ledger) -> None:
    """As behind a pool of connections that the settings do not tell of."""
    claim()
    if ledger == "postgresql":
        with server_side(ledger).cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")

    works()
    works()


def test_in_a_transaction_it_is_the_transactions(claim, ledger) -> None:
    """What is claimed in a transaction goes with it."""
    claim()
    with transaction.atomic(using=ledger):
        made = claim()
        transaction.set_rollback(True, using=ledger)

    assert not Claim.objects.using(ledger).filter(pk=made.envelope.id).exists()
