"""Django's own signals whose senders no worker imports by itself, through a real queue."""

from __future__ import annotations

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import close_old_connections

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("worker", "publishing"),
]


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
