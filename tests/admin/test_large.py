"""10,000 deliveries: a page of the list takes 3 queries of the ledger, each by an index."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from async_signals.ledger import aliases
from async_signals.models import Delivery, FailureGroup, State
from tests.ledger.conftest import add_history, analyze, make, save
from tests.ledger.test_query_plans import (
    CAUSES,
    REPLAYS,
    asked_of_the_ledger,
    full_scans,
    large_tables,
    relate,
)

from .conftest import LIST, page

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

NUMBER = 10_500
GROUPS = 3000  # More than are read at once; a page of them is not all of the ledger.
RECEIVERS = [f"shop.receive_{number}" for number in range(40)]
STATES = [State.FAILED, State.PENDING, State.SUCCEEDED, State.DISCARDED]

#: One row for each kind of failure. MariaDB reads all 3,000 and sorts them, though there is an
#: index of their time; PostgreSQL reads them to count them.
READ_AT_ONCE = {"async_signals_failuregroup"}


def fill(alias: str) -> Delivery:
    now = timezone.now()
    rows = [
        make(
            STATES[number // 40 % 4],
            number=number,
            receiver=RECEIVERS[number % 40],
            signal=f"shop.signals.signal_{number % 41}",
            sent_at=now - dt.timedelta(minutes=number),
            exception=f"shop.Error{number % 43}",
            fingerprint=f"{number % GROUPS:032}",
            message="connection refused " * 10,
            payload="x" * 500,
        )
        for number in range(NUMBER)
    ]
    for number, row in enumerate(rows):
        row.event.sent_at = row.sent_at
        row.event.instance_model, row.event.instance_pk = "shop.Order", str(100_000 + number)
    save(alias, *rows)
    FailureGroup.objects.using(alias).bulk_create(
        FailureGroup(
            fingerprint=f"{number:032}",
            receiver=RECEIVERS[number % 40],
            exception=f"shop.Error{number % 43}",
            first_at=now,
            last_at=now - dt.timedelta(minutes=number),
        )
        for number in range(GROUPS)
    )
    relate(alias, *rows[5000 : 5000 + CAUSES + REPLAYS + 1])
    add_history(alias, rows)
    analyze(alias)
    return rows[5000]


def test_three_queries_and_an_index(ledger, client_of) -> None:
    """
    The list as it opens, with each filter and with each search, and each other page.

    On a list of deliveries or of groups two more ask each other database what is not done there.
    """
    some = fill(ledger)
    tables = large_tables(ledger) - READ_AT_ONCE
    client = client_of(username="root")
    User.objects.filter(username="root").update(is_superuser=True)
    groups = "/admin/async_signals/failuregroup/"
    lists = [
        LIST,
        f"{LIST}?p=100",
        f"{LIST}?o=4",
        f"{LIST}?state=failed",
        f"{LIST}?receiver={RECEIVERS[3]}",
        f"{LIST}?receiver={RECEIVERS[3]}&state=failed",
        f"{LIST}?signal=shop.signals.signal_3",
        f"{LIST}?exception=shop.Error3",
        f"{LIST}?fingerprint={3:032}",
        f"{LIST}?sent=1h",
        f"{LIST}?q=105000",
        f"{LIST}?q={some.pk}",
        f"{LIST}?q={some.event_id}",
        groups,
        f"{groups}?standing=over",
    ]
    pages = [
        page(some),
        f"/admin/async_signals/event/{some.event_id}/change/",
        "/admin/async_signals/event/",
        f"{groups}{3:032}/change/",
        "/admin/async_signals/operation/",
        "/admin/async_signals/pause/",
    ]
    problems = []
    aliases()  # Which databases have the tables is asked once.

    for url in (*lists, *pages):
        with asked_of_the_ledger() as asked:
            response = client.get(url)
        assert response.status_code == 200, url
        here = asked.pop(ledger)
        if not 0 < len(here) <= 3:
            problems.append(f"{url}: {len(here)} queries")
        if {len(queries) for queries in asked.values()} != {2 if url in lists else 0}:
            problems.append(f"{url}: {asked}")
        for sql in here:
            problems += [f"{url}: {scan}\n{sql}" for scan in full_scans(ledger, sql, tables)]

    assert problems == []


def test_the_count_stops_at_the_cap(ledger, client_of) -> None:
    """10,500 are "10,000+", on every page; what a filter leaves is counted."""
    fill(ledger)
    client = client_of("view_delivery")

    text = client.get(LIST).content.decode()
    last = client.get(f"{LIST}?p=200").context["cl"]

    assert "10,000+" in text
    assert "10,500" not in text
    assert last.result_count == 10_000
    assert len(last.result_list) == 50
    assert client.get(f"{LIST}?receiver={RECEIVERS[1]}").context["cl"].result_count == 263


def test_a_question_about_ten_thousand(ledger, client_of) -> None:
    """All that match, in one question and one answer."""
    some = fill(ledger)
    client = client_of("view_delivery", "discard_delivery")
    data = {"action": "discard_selected", "select_across": "1", "_selected_action": [str(some.pk)]}

    asked = client.post(LIST, data)
    signed = {"choice": asked.context["signed"], "reason": "too old"}
    done = client.post(f"{LIST}do/discard/", signed, follow=True)

    assert asked.context["number"] == 5280
    assert "5280 discarded" in done.content.decode()
