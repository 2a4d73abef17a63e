"""People with more and less permissions, and a ledger to look at."""

from __future__ import annotations

import datetime as dt
import os

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from async_signals.models import LIVE_STATES, Attempt, FailureGroup, Outcome, State
from tests.ledger.conftest import make, save

#: Set where these tests run once more, under a theme.
THEME = os.environ.get("ASYNC_SIGNALS_TEST_THEME", "")

VERBS = ("retry", "discard", "replay")
LIST = "/admin/async_signals/delivery/"
HOSTILE = "<script>alert('&')</script>"


@pytest.fixture(autouse=True)
def _no_csrf_noise(settings) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]


@pytest.fixture
def client_of(db):
    """Return a client that is logged in as somebody with these permissions."""

    def log_in(*names: str, username: str = "ana", **fields) -> Client:
        user, _ = User.objects.get_or_create(username=username, is_staff=True, **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def ana(client_of) -> Client:
    """May do everything that is done here."""
    views = [f"view_{each}" for each in ("delivery", "event", "failuregroup", "operation", "pause")]
    return client_of(*views, *(f"{verb}_delivery" for verb in VERBS), "pause_receiver")


@pytest.fixture
def viewer(client_of) -> Client:
    """May look at everything, and do nothing."""
    views = [f"view_{each}" for each in ("delivery", "event", "failuregroup", "operation", "pause")]
    return client_of(*views, username="vera")


def add(state=State.FAILED, *, attempts=1, **fields):
    """Put a delivery with attempts into the ledger."""
    now = timezone.now()
    if state in LIVE_STATES:
        fields.setdefault("due_at", now + dt.timedelta(hours=1))
    about = {
        name: fields.pop(name)
        for name in ("instance_model", "instance_pk", "cause")
        if name in fields
    }
    fields.setdefault("exception", "shop.Refused")
    fields.setdefault("message", "no answer")
    fields.setdefault("fingerprint", "f" * 32)
    delivery = make(state, **fields)
    for name, value in about.items():
        setattr(delivery.event, name, value)
    save("default", delivery)
    for number in range(1, attempts + 1):
        Attempt.objects.create(
            delivery=delivery,
            number=number,
            outcome=Outcome.RAISED,
            started_at=now - dt.timedelta(minutes=10 - number),
            duration=1.8,
            queued=0.2,
            worker="worker-1",
            exception=delivery.exception,
            message=delivery.message,
            own_frames=f'File "shop.py", line {number}, in receive',
            traceback="Traceback (most recent call last): everything",
            fingerprint=delivery.fingerprint,
        )
    FailureGroup.objects.get_or_create(
        fingerprint=delivery.fingerprint,
        defaults={
            "receiver": delivery.receiver,
            "exception": delivery.exception,
            "message": delivery.message,
            "first_at": now,
            "last_at": now,
        },
    )
    return delivery


def page(delivery) -> str:
    return f"{LIST}{delivery.pk}/change/"


def action(client, name, *deliveries, query="", across=False):
    """Choose an action on the list; returns the page that asks."""
    return client.post(
        f"{LIST}{query}",
        {
            "action": f"{name}_selected",
            "_selected_action": [str(each.pk) for each in deliveries],
            "select_across": "1" if across else "0",
        },
    )


def confirm(client, asked, **fields):
    """Answer the page that asks."""
    verb = asked.context["verb"].name
    return client.post(
        f"{LIST}do/{verb}/", {"choice": asked.context["signed"], **fields}, follow=True
    )


def told(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]
