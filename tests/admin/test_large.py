"""10,000 deliveries: a page of the list takes 3 queries of the ledger, each by an index."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from async_signals.models import Delivery, Event, FailureGroup, State
from tests.ledger.conftest import make, save
from tests.ledger.test_query_plans import full_scans

from .conftest import LIST, page

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

NUMBER = 10_500
RECEIVERS = [f"shop.receive_{number}" for number in range(40)]
STATES = [State.FAILED, State.PENDING, State.SUCCEEDED, State.DISCARDED]


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
            fingerprint=f"{number % 47:032}",
            message="connection refused " * 10,
            payload="x" * 500,
        )
        for number in range(NUMBER)
    ]
    for number, row in enumerate(rows):
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
        for number in range(20)  # A page of groups is not all of the ledger.
    )
    with connections[alias].cursor() as cursor:
        for model in (Delivery, Event):
            analyze = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE"}
            verb = analyze.get(connections[alias].vendor, "ANALYZE")
            cursor.execute(f"{verb} {model._meta.db_table}")
    return rows[5000]


def test_three_queries_and_an_index(ledger, client_of) -> None:
    """The list as it opens, with each filter and with each search; and a page of one delivery."""
    some = fill(ledger)
    client = client_of(username="root")
    User.objects.filter(username="root").update(is_superuser=True)
    urls = {
        LIST: 3,
        f"{LIST}?p=100": 3,
        f"{LIST}?o=4": 3,
        f"{LIST}?state=failed": 3,
        f"{LIST}?receiver={RECEIVERS[3]}": 3,
        f"{LIST}?receiver={RECEIVERS[3]}&state=failed": 3,
        f"{LIST}?signal=shop.signals.signal_3": 3,
        f"{LIST}?exception=shop.Error3": 3,
        f"{LIST}?fingerprint={3:032}": 3,
        f"{LIST}?sent=1h": 3,
        f"{LIST}?q=105000": 3,
        f"{LIST}?q={some.pk}": 4,
        page(some): 3,
        f"/admin/async_signals/event/{some.event_id}/change/": 3,
        "/admin/async_signals/event/": 3,
        "/admin/async_signals/failuregroup/": 3,
        "/admin/async_signals/failuregroup/?standing=over": 3,
        f"/admin/async_signals/failuregroup/{3:032}/change/": 3,
        "/admin/async_signals/operation/": 3,
        "/admin/async_signals/pause/": 3,
    }
    problems = []

    for url, most in urls.items():
        with CaptureQueriesContext(connections[ledger]) as queries:
            response = client.get(url)
        assert response.status_code == 200, url
        asked = [
            each["sql"] for each in queries.captured_queries if "async_signals_" in each["sql"]
        ]
        if len(asked) > most:
            problems.append(f"{url}: {len(asked)} queries")
        if ledger == "postgresql":
            for sql in asked:
                problems += [f"{url}: {scan}\n{sql}" for scan in full_scans(ledger, sql)]

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
