"""10,000 failed deliveries: what a page or a command asks takes 3 queries at most, by index."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import itertools
import re

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from async_signals import operations, stats
from async_signals.ledger import aliases, due
from async_signals.models import Delivery, Event, FailureGroup, Operation, State
from async_signals.stats import Filter

from .conftest import SENT, add_history, analyze, make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

FAILED = 10_000
WAITING = 500
RECEIVERS = [f"shop.receive_{number}" for number in range(5)]
ERRORS = [f"shop.Error{number}" for number in range(40)]
HANDLED = 200
#: Above a delivery, and of it; in all tests of one.
CAUSES, REPLAYS = 10, 5
#: A table of so few rows is read at once, whatever indexes it has.
SMALL = 1000


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
            exception=ERRORS[number % len(ERRORS)],
            first_at=SENT,
            last_at=SENT + dt.timedelta(minutes=number),
        )
        for number in range(len(ERRORS) + HANDLED)
    )
    some = Delivery.objects.using(alias).order_by("sent_at")[FAILED // 2 :]
    relate(alias, *some[: CAUSES + REPLAYS + 1])
    add_history(alias, list(Delivery.objects.using(alias).only("sent_at")))
    analyze(alias)
    return Delivery.objects.using(alias).order_by("sent_at")[FAILED // 2]


def relate(alias: str, one: Delivery, *others: Delivery) -> None:
    """Let a delivery be the last of a chain of causes, and be repeated by the rest."""
    causes, replays = others[:CAUSES], others[CAUSES:]
    for caused, cause in itertools.pairwise([one, *causes]):
        Event.objects.using(alias).filter(pk=caused.event_id).update(cause=cause.pk)
    rows = Delivery.objects.using(alias).filter(pk__in=[each.pk for each in replays])
    rows.update(replay_of=one.pk)


def large_tables(alias: str) -> set[str]:
    """Return those tables of the ledger that are read by an index, or take long."""
    return {
        model._meta.db_table
        for model in apps.get_app_config("async_signals").get_models()
        if model._base_manager.using(alias).count() > SMALL
    }


def full_scans(alias: str, sql: str, tables: set[str]) -> list[str]:
    """Return the steps of the plan that read every row of one of these tables."""
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "sqlite":
            return []
        cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
        rows = cursor.fetchall()
    if connections[alias].vendor == "postgresql":
        scans = [(line, re.search(r"Seq Scan on (\w+)", line)) for (line,) in rows]
        return [line for line, scan in scans if scan and scan[1] in tables]
    # A table is named as the query names it.
    named = re.findall(r"(async_signals_\w+)`?(?: AS)? `?(\w+)", sql)
    meant = tables | {name for table, name in named if table in tables}
    # id, select_type, table, type, ...
    return [str(row) for row in rows if row[3] == "ALL" and row[2] in meant]


@contextlib.contextmanager
def asked_of_the_ledger():
    """Yield what is asked of the tables of the ledger, by the alias of the database."""
    asked: dict[str, list[str]] = {}
    with contextlib.ExitStack() as stack:
        queries = {
            alias: stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in connections
        }
        yield asked
    for alias, captured in queries.items():
        texts = [each["sql"] for each in captured.captured_queries]
        asked[alias] = [sql for sql in texts if "async_signals_" in sql]


def test_three_queries_and_an_index(ledger) -> None:
    """Each page and each command, with 10,000 failures in the ledger."""
    some = fill(ledger)
    tables = large_tables(ledger)
    assert len(tables) == 6
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
            f"rehearse {verb} {name}": (
                lambda verb=verb, wanted=wanted: operations.rehearse(
                    verb, wanted, cap=1_000, using=ledger
                )
            )
            for verb in ("retry", "discard", "replay")
            for name, wanted in filters.items()
            if name != "nothing"  # All of them: read once, up to the cap.
        },
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
    for table in tables:
        everything = f"SELECT * FROM {table}"
        assert bool(full_scans(ledger, everything, tables)) == (ledger != "default")

    for name, ask in questions.items():
        with asked_of_the_ledger() as asked:
            assert ask(), name
        if not 0 < len(asked[ledger]) <= 3:
            problems.append(f"{name}: {len(asked[ledger])} queries")
        problems += [f"{name}: asks {each}" for each in asked if each != ledger and asked[each]]
        for sql in asked[ledger]:
            problems += [f"{name}: {scan}\n{sql}" for scan in full_scans(ledger, sql, tables)]

    assert problems == []


def test_an_operation_reads_four_times_at_most(ledger) -> None:
    """By index, and the rest is what it writes; for some as for one."""
    fill(ledger)
    tables = large_tables(ledger)
    failed = Delivery.objects.using(ledger).filter(state=State.FAILED, turn__isnull=True)
    some = iter(map(str, failed.values_list("pk", flat=True)[:18]))
    problems = []
    for verb in ("retry", "discard", "replay"):
        kinds = []
        for number in (1, 5):
            ids = tuple(itertools.islice(some, number))
            with asked_of_the_ledger() as asked:
                operation = getattr(operations, verb)(
                    Filter(ids=ids), by="ann", reason="a test", using=ledger
                )
            assert operation.changed == number
            read = [sql for sql in asked[ledger] if not sql.startswith("INSERT")]
            kinds.append([sql.split()[0] for sql in read])
            for sql in read:
                problems += [f"{verb}: {scan}\n{sql}" for scan in full_scans(ledger, sql, tables)]
        assert kinds[0] == kinds[1], verb
        assert kinds[0].count("SELECT") <= 4, verb
        assert len(kinds[0]) <= 8, verb

    assert problems == []


def test_the_audit_is_pruned_by_index(ledger) -> None:
    """A batch at a time, with 10,000 operations that are kept for their deliveries."""
    fill(ledger)
    tables = large_tables(ledger)
    before = Operation.objects.using(ledger).count()

    with asked_of_the_ledger() as asked:
        operations.prune(by="ann", using=ledger)

    assert Operation.objects.using(ledger).filter(verb="retry").count() == before
    about = [sql for sql in asked[ledger] if "async_signals_operationitem" in sql]
    assert len(about) <= before / 500 + 1
    assert [scan for sql in about for scan in full_scans(ledger, sql, tables)] == []


def test_the_relay_looks_by_time(ledger) -> None:
    """
    What is due is found by its index, also where retries have to wait and a worker has died.

    So is the line before what was published to a receiver with a rate limit, in four queries more;
    where no such one has anything due, in none.
    """
    fill(ledger)
    save(ledger, *(make(State.RUNNING, receiver="shop.gone") for _ in range(20)))
    Delivery.objects.using(ledger).filter(state=State.PENDING, receiver=RECEIVERS[4]).update(
        state=State.PUBLISHED, published_at=SENT
    )
    analyze(ledger)
    asked = []
    for limited in ([], RECEIVERS[:4], RECEIVERS):
        with (
            transaction.atomic(using=ledger),
            CaptureQueriesContext(connections[ledger]) as queries,
        ):
            due.take_due(
                ledger,
                receivers=RECEIVERS,
                limit=700,
                without=RECEIVERS[:2],
                spacing=lambda name, limited=limited: 2.0 if name in limited else 0.0,
            )
            transaction.set_rollback(True, using=ledger)
        asked.append([each["sql"] for each in queries])

    without_limit, others, at_its_rate = asked
    assert len(others) == len(without_limit)
    assert len(at_its_rate) <= len(without_limit) + 4
    [look] = [sql for sql in at_its_rate if "LIMIT 700" in sql]
    assert "async_signals_due" in plan(ledger, look)
    [line] = [sql for sql in at_its_rate if sql.endswith("LIMIT 1801")]
    assert "async_signals_receiver" in plan(ledger, line)


def plan(alias: str, sql: str) -> str:
    verb = "EXPLAIN QUERY PLAN" if alias == "default" else "EXPLAIN"
    with connections[alias].cursor() as cursor:
        cursor.execute(f"{verb} {sql}".replace("%", "%%"))
        return str(cursor.fetchall())


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

    aliases()  # Which databases have the tables is asked once.

    with asked_of_the_ledger() as asked, contextlib.suppress(SystemExit):
        call_command("async_signals", *known, stdout=io.StringIO())

    assert 0 < len(asked.pop(ledger)) <= 3
    # What is not done elsewhere: 2 queries on each other database.
    assert {len(queries) for queries in asked.values()} == {2 if args == ["stats"] else 0}


def test_causes_and_replays_cost_no_query(ledger) -> None:
    """What a delivery has to do with is read with it: also a long chain, and many replays."""
    rows = save(ledger, *(make(number=number) for number in range(CAUSES + REPLAYS + 1)))
    relate(ledger, *rows)

    with asked_of_the_ledger() as asked:
        view = stats.show(rows[0].pk)
        told = [(each.key, each.delivery.receiver, each.delivery.state) for each in view.causes]
        again = [(each.pk, each.receiver, each.state) for each in view.replays]

    assert len(asked[ledger]) == 3
    assert told == [(each.pk, "shop.receive", "failed") for each in rows[1 : CAUSES + 1]]
    assert again == [(each.pk, "shop.receive", "failed") for each in rows[: -REPLAYS - 1 : -1]]
    assert view.delivery.envelope == rows[0].envelope
    assert {each.envelope for each in view.replays} == {""}  # Which may be large.
