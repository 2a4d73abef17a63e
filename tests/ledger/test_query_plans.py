"""10,000 failed deliveries: what a page or a command asks takes 3 queries at most, by index."""

from __future__ import annotations

import contextlib
import datetime as dt
import io

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from async_signals import operations, stats
from async_signals.ledger import due
from async_signals.models import Delivery, FailureGroup, State
from async_signals.stats import Filter

from .conftest import SENT, make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

FAILED = 10_000
WAITING = 500
RECEIVERS = [f"shop.receive_{number}" for number in range(5)]
ERRORS = [f"shop.Error{number}" for number in range(40)]
HANDLED = 200


def fill(alias: str) -> Delivery:
    """Fill the ledger; the state of a delivery, its receiver and its error are independent."""
    save(
        alias,
        *(
            make(
                State.PENDING if number % 21 == 0 else State.FAILED,
                number=number,
                receiver=RECEIVERS[number % len(RECEIVERS)],
                sent_at=SENT + dt.timedelta(seconds=number),
                exception=ERRORS[number % len(ERRORS)],
                fingerprint=f"{number % len(ERRORS):032}",
                message="connection refused " * 10,
                payload="x" * 500,
            )
            for number in range(FAILED + WAITING)
        ),
    )
    FailureGroup.objects.using(alias).bulk_create(
        FailureGroup(
            fingerprint=f"{number:032}",
            receiver=RECEIVERS[number % len(RECEIVERS)],
            exception=(ERRORS * 6)[number],
            first_at=SENT,
            last_at=SENT + dt.timedelta(minutes=number),
        )
        for number in range(len(ERRORS) + HANDLED)
    )
    with connections[alias].cursor() as cursor:
        for model in (Delivery, FailureGroup):
            analyze = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE"}
            verb = analyze.get(connections[alias].vendor, "ANALYZE")
            cursor.execute(f"{verb} {model._meta.db_table}")
    return Delivery.objects.using(alias).order_by("sent_at")[FAILED // 2]


def full_scans(alias: str, sql: str) -> list[str]:
    """Return the steps of the plan that read every row of the deliveries' table."""
    table = Delivery._meta.db_table
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "sqlite":
            return []
        cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
        rows = cursor.fetchall()
    if connections[alias].vendor == "postgresql":
        return [line for (line,) in rows if f"Seq Scan on {table}" in line]
    # id, select_type, table, type, ...
    return [str(row) for row in rows if row[3] == "ALL" and row[2] in (table, "U0")]


def test_three_queries_and_an_index(ledger) -> None:
    """Each page and each command, with 10,000 failures in the ledger."""
    some = fill(ledger)
    middle = SENT + dt.timedelta(seconds=FAILED // 2)
    filters = {
        "nothing": Filter(),
        "state": Filter(state="failed"),
        "receiver": Filter(receiver=RECEIVERS[1]),
        "signal": Filter(signal="shop.signals.done"),
        "exception": Filter(exception=ERRORS[3]),
        "group": Filter(fingerprint=f"{3:032}"),
        "receiver and state": Filter(receiver=RECEIVERS[1], state="failed"),
        "since": Filter(since=middle, until=middle + dt.timedelta(minutes=1)),
        "ids": Filter(ids=(str(some.pk),)),
    }
    questions = {
        **{
            f"list by {name}": (lambda wanted=wanted: stats.deliveries(wanted, limit=50))
            for name, wanted in filters.items()
        },
        **{
            f"count by {name}": (lambda wanted=wanted: stats.count(wanted))
            for name, wanted in filters.items()
            if name not in ("nothing", "signal")  # All of them: read once, up to the cap.
        },
        "failures": stats.failures,
        "failures since": lambda: stats.failures(since=SENT + dt.timedelta(minutes=20)),
        "show": lambda: stats.show(some.pk),
        "show by its beginning": lambda: stats.show(str(some.pk)[:30]),
        "prune": lambda: not operations.prunable(using=ledger)[:500].exists(),
        **{
            f"{verb} {name}": (
                lambda verb=verb, wanted=wanted: list(
                    operations.candidates(verb, wanted, using=ledger).order_by("sent_at", "pk")[:10]
                )
            )
            for verb in ("retry", "discard", "replay")
            for name, wanted in filters.items()
        },
        "summary": stats.summary,
    }
    problems = []
    with CaptureQueriesContext(connections[ledger]) as queries:
        list(Delivery.objects.using(ledger).filter(worker="x"))
    assert bool(full_scans(ledger, queries[0]["sql"])) == (ledger != "default")

    for name, ask in questions.items():
        with CaptureQueriesContext(
            connections[ledger],
        ) as queries:
            assert ask(), name
        if len(queries) > 3:
            problems.append(f"{name}: {len(queries)} queries")
        for query in queries.captured_queries:
            problems += [f"{name}: {s}\n{query['sql']}" for s in full_scans(ledger, query["sql"])]

    assert problems == []


def test_the_relay_looks_by_time(ledger) -> None:
    """What is due is found by its index, also where retries have to wait and a worker has died."""
    fill(ledger)
    save(ledger, *(make(State.RUNNING, receiver="shop.gone") for _ in range(20)))

    with CaptureQueriesContext(connections[ledger]) as queries:
        due.take_due(ledger, receivers=RECEIVERS, limit=100, without=RECEIVERS[:2])

    [look] = [each["sql"] for each in queries if "LIMIT 100" in each["sql"]]
    verb = "EXPLAIN QUERY PLAN" if ledger == "default" else "EXPLAIN"
    with connections[ledger].cursor() as cursor:
        cursor.execute(f"{verb} {look}".replace("%", "%%"))
        assert "async_signals_due" in str(cursor.fetchall())


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--receiver", RECEIVERS[2], "--state", "failed"],
        ["list", "--group", f"{3:032}", "--json"],
        ["failures"],
        ["stats"],
        ["show", ...],
    ],
)
def test_each_screen_of_the_command(ledger, args) -> None:
    """What a screen of the command asks of the ledger, its own arguments included."""
    row = save(ledger, *(make(number=number, receiver=RECEIVERS[2]) for number in range(50)))[7]
    known = [str(row.pk)[:32] if each is ... else each for each in args]

    with CaptureQueriesContext(connections[ledger]) as queries, contextlib.suppress(SystemExit):
        call_command("async_signals", *known, stdout=io.StringIO())

    assert len(queries) <= 3
