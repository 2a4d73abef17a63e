"""Django's own signals whose senders no worker imports by itself, through a real queue."""

from __future__ import annotations

import time
import uuid

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import close_old_connections, connections

from tests.faults.waiting import wait_until
from tests.testapp import receivers, signals

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("worker", "publishing"),
]


def test_a_connection_that_a_delivery_opens_causes_none(reports, monkeypatch) -> None:
    """The receiver opens a connection of its own each time: it is told of ours, and that is all."""
    monkeypatch.setattr(receivers, "reports_connections", True)
    connections["other"].close()
    before = time.time()  # A worker that starts may open connections of its own.
    connections["other"].ensure_connection()

    def told() -> list[dict]:
        return [r for r in reports.got(receiver="connected") if r["sent_at"] >= before]

    wait_until(told, what="the event of our connection")
    number = uuid.uuid4().hex
    for _ in range(4):  # Two for each process: what that delivery caused has run by then.
        signals.reported.send(None, number=number)
    reports.wait(4, receiver="plain", number=number)
    assert len(told()) == 1


def test_the_worker_knows_the_handler(reports, monkeypatch) -> None:
    """The class that handles requests arrives in a process that handles none."""
    monkeypatch.setattr(WSGIHandler, "is_reported", True, raising=False)
    request_finished.disconnect(close_old_connections)
    try:
        request_finished.send(sender=WSGIHandler)
    finally:
        request_finished.connect(close_old_connections)

    [got] = reports.wait(receiver="request_done")
    assert got["sender"] == "django.core.handlers.wsgi.WSGIHandler"
