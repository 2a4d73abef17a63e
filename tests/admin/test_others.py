"""Events, groups of failures, the audit and pauses in the admin."""

from __future__ import annotations

import types

import pytest
from django.dispatch import Signal

from async_signals import operations
from async_signals.models import Delivery, FailureGroup, Operation, Pause, State
from async_signals.stats import Filter

from .conftest import LIST, THEME, add, confirm, page, told

pytestmark = pytest.mark.django_db
ROOT = "/admin/async_signals/"
GROUP = "f" * 32


def test_groups_count_what_they_hold_up(ana) -> None:
    """Failed, waiting and the next attempt; a group that is over is shown where asked for."""
    add(), add(), add(State.PENDING)
    add(State.SUCCEEDED, fingerprint="0" * 32, exception="shop.Over")

    response = ana.get(f"{ROOT}failuregroup/")

    (group,) = response.context["cl"].result_list
    assert (group.standing.failed, group.standing.waiting) == (2, 1)
    assert "in 59 min" in response.content.decode()
    everything = ana.get(f"{ROOT}failuregroup/?standing=over").context["cl"].result_list
    assert len(everything) == 2


def test_a_group_is_retried_as_a_whole(ana) -> None:
    """All that it holds up and that can be retried, asked about with the count."""
    add(), add(State.PENDING), add(State.DISCARDED), add(fingerprint="0" * 32)
    data = {"action": "retry_groups", "_selected_action": [GROUP]}

    asked = ana.post(f"{ROOT}failuregroup/", data)
    assert asked.context["number"] == 2
    done = confirm(ana, asked)

    assert told(done) == ["2 retried"]
    assert done.redirect_chain == [(f"{ROOT}failuregroup/", 303)]
    assert Operation.objects.get().changed == 2


def test_a_group_is_not_retried_without_permission(viewer, client_of) -> None:
    """Neither by a viewer, nor by one who may retry but not see deliveries."""
    add()
    data = {"action": "retry_groups", "_selected_action": [GROUP]}

    for client in (viewer, client_of("view_failuregroup", "retry_delivery", username="otto")):
        assert "retry_groups" not in client.get(f"{ROOT}failuregroup/").content.decode()
        assert not client.get(f"{ROOT}failuregroup/{GROUP}/change/").context["retries"]
        client.post(f"{ROOT}failuregroup/", data)
    assert not Operation.objects.exists()


def test_the_page_of_a_group_leads_to_its_deliveries(ana) -> None:
    """What it is, how it stands, and a link to the list."""
    add()
    text = ana.get(f"{ROOT}failuregroup/{GROUP}/change/").content.decode()

    assert f'href="{LIST}?fingerprint={GROUP}"' in text
    assert 'value="retry_groups"' in text
    Delivery.objects.update(state="succeeded")
    over = ana.get(f"{ROOT}failuregroup/{GROUP}/change/").content.decode()
    assert "It is over" in over
    assert 'value="retry_groups"' not in over
    assert FailureGroup.objects.exists()


def test_an_event_names_its_deliveries(ana) -> None:
    """Signal, object, and what became of each delivery that was recorded."""
    delivery = add(instance_model="shop.Order", instance_pk="12", cause=None)

    text = ana.get(f"{ROOT}event/{delivery.event_id}/change/").content.decode()

    assert f'href="{page(delivery)}"' in text
    assert "shop.Order 12" in text
    assert ana.get(f"{ROOT}event/").status_code == 200


def test_the_audit_names_who_what_when_why_and_each_item(ana) -> None:
    """The operation with its items, what was left first."""
    failed, running = add(), add(State.RUNNING)
    ids = (str(failed.pk), str(running.pk))
    operation = operations.retry(Filter(ids=ids), by="ben", via="command", reason="smtp fixed")

    text = ana.get(f"{ROOT}operation/{operation.pk}/change/").content.decode()

    for words in ("ben", "command", "smtp fixed", "1 of 2 changed", "left: it is running"):
        assert words in text
    assert text.index(str(running.pk), text.index("ledger-audit")) < text.index(
        "retried: it had failed"
    )
    assert "1 of 2 changed" in ana.get(f"{ROOT}operation/").content.decode()


def test_a_receiver_is_paused_and_resumed(ana) -> None:
    """From the page of a delivery, with a reason, through the operations."""
    delivery = add()
    assert "pause/add/?receiver=shop.receive" in ana.get(page(delivery)).content.decode()
    assert "shop.receive" in ana.get(f"{ROOT}pause/add/?receiver=shop.receive").content.decode()

    done = ana.post(
        f"{ROOT}pause/add/", {"receiver": "shop.receive", "reason": "rebuilding"}, follow=True
    )
    assert told(done) == ["shop.receive is paused: its deliveries wait."]
    assert Pause.objects.get().reason == "rebuilding"
    text = ana.get(page(delivery)).content.decode()
    assert "receiver paused" in text
    assert "Resume receiver" in text

    shown = ana.get(f"{ROOT}pause/shop.receive/change/")
    done = ana.post(shown.context["resume_url"], {"reason": "done"}, follow=True)
    assert told(done) == ["shop.receive goes on."]
    assert not Pause.objects.exists()
    audit = Operation.objects.order_by("pk").values_list("verb", "by", "via", "reason")
    assert list(audit) == [
        ("pause", "ana", "admin", "rebuilding"),
        ("resume", "ana", "admin", "done"),
    ]


def test_selected_receivers_are_resumed(ana) -> None:
    """The action on the list of pauses."""
    operations.pause("tests.testapp.receivers.obedient", by="ben")

    done = ana.post(
        f"{ROOT}pause/",
        {"action": "resume_selected", "_selected_action": ["tests.testapp.receivers.obedient"]},
        follow=True,
    )

    assert told(done) == ["tests.testapp.receivers.obedient goes on."]
    assert not Pause.objects.exists()


def test_an_unknown_receiver_is_not_paused(ana) -> None:
    """The form says why, and stays."""
    done = ana.post(f"{ROOT}pause/add/", {"receiver": "shop.unknown"})

    assert done.status_code == 200
    assert "cannot pause" in told(done)[0]
    assert not Operation.objects.exists()


def test_a_receiver_that_was_renamed_is_paused(ana, connect) -> None:
    """By whatever name its pause and its delivery are known; the link leads to the pause."""
    delivery = add()
    operations.pause("shop.receive", by="ben")

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="shop.renamed", aliases=["shop.receive"], robust=True)
    for each in (delivery, add(receiver="shop.renamed")):
        text = ana.get(page(each)).content.decode()
        assert "receiver paused" in text
        assert "/pause/shop.receive/change/" in text
    ana.post(f"{ROOT}pause/shop.receive/resume/")

    assert not Pause.objects.exists()
    assert "receiver paused" not in ana.get(page(delivery)).content.decode()


def test_who_may_not_pause_is_offered_nothing(viewer) -> None:
    """No link, no form, no button."""
    delivery = add()
    operations.pause("shop.receive", by="ben")

    text = viewer.get(page(delivery)).content.decode()
    assert "/pause/" not in text.split('id="content-main"')[1]
    assert viewer.get(f"{ROOT}pause/add/").status_code == 403
    assert not viewer.get(f"{ROOT}pause/shop.receive/change/").context["resume_url"]


@pytest.mark.skipif(THEME == "unfold", reason="Unfold's pages need an AdminSite of Unfold")
def test_another_admin_site(ana, settings) -> None:
    """A site with a name of its own: its pages lead to its pages."""
    from django.contrib.admin import AdminSite
    from django.contrib.auth.models import User
    from django.urls import include, path, set_urlconf

    from async_signals.admin import DeliveryAdmin, PauseAdmin

    site = AdminSite(name="staff")
    site.register(Delivery, DeliveryAdmin)
    site.register(Pause, PauseAdmin)
    delivery = add()

    urls = types.ModuleType("staff_urls")
    urls.urlpatterns = [path("staff/", site.urls), path("", include("tests.testproject.urls"))]
    settings.ROOT_URLCONF = urls
    set_urlconf(None)
    User.objects.filter(username="ana").update(is_superuser=True)
    url = f"/staff/async_signals/delivery/{delivery.pk}/change/"
    shown = ana.get(url)

    assert 'action="/staff/async_signals/delivery/do/retry/"' in shown.content.decode()
    data = {"choice": shown.context["retry_now"]}
    done = ana.post("/staff/async_signals/delivery/do/retry/", data, follow=True)
    assert done.redirect_chain == [(url, 303)]
    assert told(done) == ["1 retried"]


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("page", ["change", "history"])
@pytest.mark.parametrize("model", ["failuregroup", "event", "operation", "pause"])
def test_an_id_that_cannot_be(ana, ledger, model, page) -> None:
    """As one that is not there: back to where one came from, with a word."""
    response = ana.get(f"{ROOT}{model}/%00/{page}/")

    assert response.status_code in (302, 404)
