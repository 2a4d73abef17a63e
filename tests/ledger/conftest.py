"""A ledger on each database, and deliveries to put into it."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.apps import apps
from django.db import connections

from async_signals.ids import new_id
from async_signals.models import Attempt, Delivery, Event, Operation, OperationItem, State, Turn
from async_signals.wire.envelope import Envelope, dump

#: When the events of these tests were sent.
SENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
#: When none of them is due yet.
FAR = dt.datetime(2126, 1, 1, tzinfo=dt.UTC)


def make(state=State.FAILED, *, number=0, receiver="shop.receive", **fields) -> Delivery:
    """Return an unsaved delivery of an unsaved event; live ones are due at ``SENT``."""
    event = Event(id=uuid.UUID(new_id()), signal="shop.signals.done", sent_at=SENT)
    key = uuid.UUID(new_id())
    envelope = Envelope(
        id=str(key),
        event_id=str(event.id),
        receiver=receiver,
        signal="shop.signals.done",
        sent=SENT.isoformat(),
        sender=None,
        kwargs={"number": number},
    )
    is_live = state in (State.PENDING, State.PUBLISHED, State.RUNNING)
    values = {
        "id": key,
        "event": event,
        "receiver": receiver,
        "signal": event.signal,
        "sent_at": event.sent_at,
        "state": state,
        "due_at": SENT if is_live else None,
        "epoch": 2,
        "attempts": 2,
        "envelope": dump(envelope),
        "payload": f'{{"number": {number}}}',
        "finished_at": None if is_live else SENT,
    }
    return Delivery(**(values | fields))


def save(alias, *deliveries: Delivery) -> list[Delivery]:
    events = [each.event for each in deliveries]
    Event.objects.using(alias).bulk_create(events, batch_size=500, ignore_conflicts=True)
    Delivery.objects.using(alias).bulk_create(deliveries, batch_size=500)
    return list(deliveries)


def add_history(alias, deliveries: list[Delivery]) -> None:
    """Give each delivery an attempt and an operation, and each tenth one a turn."""
    operations = [
        Operation(
            id=uuid.uuid4(), verb="retry", by="ana", via="api", target="x", started_at=each.sent_at
        )
        for each in deliveries
    ]
    history = {
        Attempt: [
            Attempt(delivery=each, number=1, outcome="raised", started_at=each.sent_at)
            for each in deliveries
        ],
        Operation: operations,
        OperationItem: [
            OperationItem(operation=done, delivery=each.pk, changed=True, outcome="retried")
            for done, each in zip(operations, deliveries, strict=True)
        ],
        Turn: [
            Turn(key=f"order {each.pk}", delivery=each, ready=True) for each in deliveries[::10]
        ],
    }
    for model, rows in history.items():
        model.objects.using(alias).bulk_create(rows, batch_size=2000)


def analyze(alias) -> None:
    """Let the optimizer know how large the tables are."""
    verb = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE"}.get(
        connections[alias].vendor, "ANALYZE"
    )
    with connections[alias].cursor() as cursor:
        for model in apps.get_app_config("async_signals").get_models():
            cursor.execute(f"{verb} {model._meta.db_table}")


@pytest.fixture
def add(ledger):
    """Put one delivery into the ledger; arguments as for ``make()``."""
    return lambda *args, **fields: save(ledger, make(*args, **fields))[0]
