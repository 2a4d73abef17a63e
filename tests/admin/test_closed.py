"""Closed by default: no request of somebody who may only look changes a row."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from async_signals import operations
from async_signals.models import State

from .conftest import VERBS, action, add

pytestmark = pytest.mark.django_db

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
MODELS = ("delivery", "event", "failuregroup", "operation", "pause")


def rows() -> dict:
    """Return every row of the package's tables, and of the admin's own history."""
    models = [*apps.get_app_config("async_signals").get_models(), LogEntry]
    return {model.__name__: sorted(map(str, model.objects.values_list())) for model in models}


def urls_of(delivery, operation) -> list[str]:
    """Return every URL of these admins, from their own patterns."""
    keys = {
        "delivery": delivery.pk,
        "event": delivery.event_id,
        "failuregroup": delivery.fingerprint,
        "operation": operation.pk,
        "pause": "shop.receive",
    }
    found = []
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label != "async_signals":
            continue
        for pattern in model_admin.get_urls():
            if pattern.name is None:  # The old form of a page's URL, which only redirects.
                found.append(
                    reverse("admin:index")
                    + f"async_signals/{model._meta.model_name}/{keys[model._meta.model_name]}/"
                )
            elif "verb" in pattern.pattern.converters:
                found += [
                    reverse(f"admin:{pattern.name}", args=[verb]) for verb in (*VERBS, "prune")
                ]
            elif pattern.pattern.converters:
                found.append(reverse(f"admin:{pattern.name}", args=[keys[model._meta.model_name]]))
            else:
                found.append(reverse(f"admin:{pattern.name}"))
    return found


def forged(delivery, signed: str) -> list[dict]:
    """Return what somebody might send."""
    every = ("retry_selected", "discard_selected", "replay_selected", "delete_selected",
             "retry_groups", "resume_selected")  # fmt: skip
    keys = [str(delivery.pk), delivery.fingerprint, "shop.receive", str(delivery.event_id)]
    selection = {"_selected_action": keys, "select_across": "1", "index": "0", "post": "yes"}
    return [
        *({"action": name, **selection} for name in every),
        {"choice": signed, "reason": "x", "delivery": str(delivery.pk), "receiver": "shop.receive"},
        {"state": "succeeded", "payload": "x", "receiver": "shop.other", "_save": "Save",
         "form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(delivery.pk)},
    ]  # fmt: skip


@pytest.fixture
def ledger_of_one(ana):
    delivery = add(attempts=1)
    add(State.PENDING)
    operation = operations.pause("shop.receive", by="ben")
    return delivery, operation, action(ana, "discard", delivery).context["signed"]


def test_who_may_only_look_changes_nothing_by_any_request(viewer, ledger_of_one) -> None:
    """Every URL, every method, every action by name: each row is as before."""
    delivery, operation, signed = ledger_of_one
    urls, before = urls_of(delivery, operation), rows()
    assert len(urls) >= 5 * 5 + 2 * 4

    statuses = set()
    for url in urls:
        for method in METHODS:
            for data in forged(delivery, signed):
                send = getattr(viewer, method)
                query = (
                    send(url, data)
                    if method in ("get", "head", "post")
                    else send(url, data, content_type="application/json")
                )
                statuses.add(query.status_code)
                if method == "get":
                    break

    assert rows() == before
    assert statuses <= {200, 302, 400, 403, 404, 405}, statuses


@pytest.mark.parametrize("who", ["anonymous", "no staff", "no permission"])
def test_others_see_nothing(client_of, ledger_of_one, who) -> None:
    """Anonymous people are sent to the login; who lacks the permission to view gets 403."""
    delivery, operation, signed = ledger_of_one
    client = Client() if who == "anonymous" else client_of(username=who)
    if who == "no staff":
        from django.contrib.auth.models import User

        User.objects.filter(username=who).update(is_staff=False)
    before = rows()

    for url in urls_of(delivery, operation):
        for method in METHODS:
            response = getattr(client, method)(
                url, *(forged(delivery, signed)[6:7] if method == "post" else [])
            )
            assert "no answer" not in response.content.decode(), url
            if who != "no permission":
                assert response.status_code == 302
                assert response["Location"].startswith("/admin/login/")
            elif response.status_code == 302:  # The old form of a page's URL.
                assert response["Location"].endswith("/change/")
            else:
                assert response.status_code in (403, 404, 405), (url, method)

    assert rows() == before


def test_a_superuser_cannot_edit_either(ledger_of_one, client_of) -> None:
    """Only the operations change rows: there is no form to save, add or delete."""
    delivery, _, _ = ledger_of_one
    client = client_of(username="root", is_superuser=True)
    before = rows()

    for model, key in (("delivery", delivery.pk), ("event", delivery.event_id)):
        root = f"/admin/async_signals/{model}/"
        assert client.post(f"{root}{key}/change/", {"_save": "1"}).status_code == 405
        assert client.post(f"{root}add/", {"_save": "1"}).status_code == 403
        assert client.post(f"{root}{key}/delete/", {"post": "yes"}).status_code == 403
        client.post(
            root, {"action": "delete_selected", "_selected_action": [str(key)], "post": "yes"}
        )

    assert rows() == before
