"""Deliveries in the admin: the list tells what happens next, the page tells everything."""

from __future__ import annotations

import uuid

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.dispatch import Signal
from django.utils import timezone

from async_signals import operations
from async_signals.admin import DeliveryAdminMixin
from async_signals.models import Event, State, Turn
from async_signals.stats import Filter
from tests.ledger.conftest import make, save

from .conftest import HOSTILE, LIST, THEME, add, page

pytestmark = pytest.mark.django_db


def test_the_list_tells_state_receiver_error_and_next_attempt(ana) -> None:
    """One row has what somebody needs to decide whether to look closer."""
    add(State.PENDING, exception="smtplib.SMTPServerDisconnected", message="closed")

    text = ana.get(LIST).content.decode()

    for words in ("pending", "in 59 min", "receive", "SMTPServerDisconnected", "closed", "done"):
        assert words in text
    assert 'class="ledger-state ledger-pending"' in text


def test_a_bundle_says_what_it_stands_for(ana) -> None:
    """In the place of an object, and of a payload."""
    bundle = add(size=1000, receiver="shop.many", payload="")

    for url in (LIST, page(bundle)):
        assert "1,000 deliveries of one transaction" in ana.get(url).content.decode()
    assert "Each of them has its own" in ana.get(page(bundle)).content.decode()


@pytest.mark.parametrize(
    "query",
    [
        "state=failed",
        "receiver=shop.wanted",
        "signal=shop.signals.done&receiver=shop.wanted",
        "exception=shop.Wanted",
        f"fingerprint={'a' * 32}",
        "q=shop.wanted",
        "q=wanted",
        "q=12",
        "q=shop.Order 12",
        "q={id}",
        "q={event}",
        "q={uuid}",
    ],
)
def test_filters_and_search_find_one(ana, query) -> None:
    """By receiver, signal, state, exception, group; by id, event and object."""
    other = add(State.PENDING, receiver="shop.other", instance_model="shop.Order", instance_pk="13")
    key = uuid.uuid4()
    wanted = add(
        receiver="shop.wanted",
        exception="shop.Wanted",
        fingerprint="a" * 32,
        instance_model="shop.Order",
        instance_pk=str(key) if "uuid" in query else "12",
    )
    query = query.format(id=wanted.pk, event=wanted.event_id, uuid=key)

    response = ana.get(f"{LIST}?{query}")

    assert response.status_code == 200
    assert [each.pk for each in response.context["cl"].result_list] == [wanted.pk]
    assert str(other.pk) not in response.content.decode()


@pytest.mark.parametrize(("sent", "number"), [("15min", 0), ("30d", 1), ("unknown", 2)])
def test_the_filter_by_time(ana, sent, number) -> None:
    """Deliveries sent lately; a value that nobody offers changes nothing."""
    import datetime as dt

    from django.utils import timezone

    add(), add(sent_at=timezone.now() - dt.timedelta(days=3))

    assert len(ana.get(f"{LIST}?sent={sent}").context["cl"].result_list) == number


@pytest.mark.parametrize(
    "query",
    ["envelope__contains=x", "envelope__startswith=%7B", "event__cause=x", "worker=x"],
)
def test_nobody_filters_by_what_is_not_offered(ana, query) -> None:
    """What is needed to deliver again is not masked: it cannot be guessed letter by letter."""
    add()

    response = ana.get(f"{LIST}?{query}")

    assert response.status_code in (302, 400)
    assert "cl" not in (response.context or {})


def test_the_page_tells_everything(ana) -> None:
    """State, receiver, event, next retry, attempts, own frames first, payload, audit."""
    delivery = add(State.PENDING, attempts=2, payload='{"a": ["\\u2022\\u2022"], "b": 1}')
    operations.retry(Filter(ids=(str(delivery.pk),)), by="ben", via="command", reason="smtp fixed")

    text = ana.get(page(delivery)).content.decode()

    for words in (
        "next attempt now",
        "shop.receive",
        "shop.signals.done",
        "#1",
        "#2",
        "ran 1.8 s",
        "in queue 200 ms",
        "worker-1",
        "shop.Refused",
        "ben",
        "(command)",
        "smtp fixed",
        "brought forward",
        "••",
    ):
        assert words in text, words
    last = text.index("#2")
    assert text.index("line 2, in receive", last) < text.index("<details", last)


def test_an_empty_page_says_that_it_works(ana) -> None:
    """Nothing attempted, nothing done: the page says so in words."""
    delivery = add(State.PENDING, attempts=0, payload="", message="", exception="")

    text = ana.get(page(delivery)).content.decode()

    assert "No worker has run it yet. It is stored, and nothing is lost." in text
    assert "Nobody has done anything to it" in text
    assert "Not recorded for people" in text


def test_causes_and_replays_are_linked(ana) -> None:
    """The chain of deliveries that led here, as far as the ledger knows it, and the replays."""
    gone = uuid.uuid4()
    first = add(receiver="shop.first", cause=gone)
    second = add(receiver="shop.second", cause=first.pk)
    third = add(receiver="shop.third", cause=second.pk)
    operations.replay(Filter(ids=(str(third.pk),)), by="ana")
    replay = third.replays.get()

    text = ana.get(page(third)).content.decode()

    for other in (first, second, replay):
        assert f'href="{page(other)}"' in text
    assert str(gone) in text
    assert f'href="{page(third)}"' in ana.get(page(replay)).content.decode()


def test_what_a_site_hides_is_no_relative(ana, monkeypatch) -> None:
    """What get_queryset() leaves out has no page, and stands on none of another delivery."""
    whole = DeliveryAdminMixin.get_queryset
    monkeypatch.setattr(
        DeliveryAdminMixin,
        "get_queryset",
        lambda self, request: whole(self, request).exclude(receiver="payroll.pay"),
    )
    hidden = add(receiver="payroll.pay")
    caused = add(cause=hidden.pk)
    again = add(receiver="payroll.pay", replay_of_id=caused.pk)

    text = ana.get(page(caused)).content.decode()

    assert "payroll" not in text
    assert str(again.pk) not in text
    assert ana.get(page(hidden)).status_code == 302


def test_a_circle_of_causes_ends(ana) -> None:
    """Rows that cause each other, which nothing writes, do not hang the page."""
    first = add()
    second = add(cause=first.pk)
    Event.objects.filter(pk=first.event_id).update(cause=second.pk)

    assert ana.get(page(first)).status_code == 200


def test_the_object_is_linked_for_those_who_may_see_it(ana, client_of) -> None:
    """A link to the object's own page, where it is registered and permitted; else its name."""
    user = User.objects.create(username="somebody")
    delivery = add(instance_model="auth.User", instance_pk=str(user.pk))
    hidden = add(instance_model="shop.Gone", instance_pk="1")
    target = f'href="/admin/auth/user/{user.pk}/change/"'

    assert target not in ana.get(page(delivery)).content.decode()
    assert "auth.User" in ana.get(page(delivery)).content.decode()
    assert "shop.Gone 1" in ana.get(page(hidden)).content.decode()
    both = client_of("view_delivery", "view_user", username="bea")
    assert target in both.get(page(delivery)).content.decode()
    assert target in both.get(LIST).content.decode()


def test_the_list_says_how_often_it_was_run(ana) -> None:
    """Also where there was no error; and the oldest come first for who asks for that."""
    add(epoch=1, receiver="shop.younger", sent_at=timezone.now())
    add(State.SUCCEEDED, epoch=3, exception="", message="", receiver="shop.older")

    text = ana.get(f"{LIST}?o=4").content.decode()

    assert text.index("3 attempts") < text.index("1 attempt<")


@pytest.mark.parametrize("url", ["not-an-id", uuid.UUID(int=7)])
def test_a_delivery_that_is_not_there(ana, url) -> None:
    """Pruned, or never there: back to the list, with a word about it."""
    response = ana.get(f"{LIST}{url}/change/", follow=True)

    assert response.redirect_chain == [(LIST, 302)]
    assert "pruned" in response.content.decode()


def test_texts_stay_texts(ana) -> None:
    """HTML in a payload, message, traceback, receiver or reason is shown, not run."""
    delivery = add(
        receiver=HOSTILE,
        message=HOSTILE,
        exception=HOSTILE,
        payload=f'{{"a": "{HOSTILE}"}}',
        reason=HOSTILE,
        signal=HOSTILE,
        instance_model=HOSTILE,
        instance_pk=HOSTILE,
    )
    delivery.attempt_set.update(own_frames=HOSTILE, traceback=HOSTILE, worker=HOSTILE)
    operations.retry(Filter(ids=(str(delivery.pk),)), by=HOSTILE, reason=HOSTILE)
    operations.pause(HOSTILE, by=HOSTILE, reason=HOSTILE)
    pages = [
        LIST,
        page(delivery),
        f"/admin/async_signals/event/{delivery.event_id}/change/",
        "/admin/async_signals/event/",
        "/admin/async_signals/failuregroup/",
        f"/admin/async_signals/failuregroup/{'f' * 32}/change/",
        "/admin/async_signals/operation/",
        "/admin/async_signals/pause/",
    ]

    for url in pages:
        text = ana.get(url).content.decode()
        assert "<script>alert" not in text, url
        assert "&lt;script&gt;" in text, url


def test_the_admin_is_the_one_of_the_theme() -> None:
    """Under a theme, its own ModelAdmin is behind the mixin."""
    from async_signals.models import Delivery

    modules = {each.__module__ for each in type(admin.site.get_model_admin(Delivery)).__mro__}

    assert ("unfold.admin" in modules) == (THEME == "unfold")


@pytest.mark.django_db(databases=["default", "other"])
def test_what_stands_on_another_database_is_told(ana) -> None:
    """The list cannot show it: it says how many, and the command that does."""
    save("other", make(State.FAILED), make(State.PENDING))
    text = ana.get(LIST).content.decode()
    assert "on database other: 1 failed, 1 on their way" in text
    assert "list --database other" in text
    assert "on database" not in ana.get("/admin/async_signals/operation/").content.decode()


def test_who_is_held_and_who_holds(ana) -> None:
    """List and page name the delivery that has to be done first, and how many wait."""
    first, second = add(State.FAILED), add(State.PENDING)
    for delivery in (first, second):
        Turn.objects.create(key="k", delivery=delivery)

    assert f"held by {first.pk}" in ana.get(LIST).content.decode()
    assert f"held by {first.pk}" in ana.get(page(second)).content.decode()
    assert "1 delivery that is to run after it" in ana.get(page(first)).content.decode()


def test_a_receiver_and_its_former_names(ana, connect) -> None:
    """The filter by receiver finds what was stored before it was renamed."""

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="shop.new", aliases=["shop.old"], robust=True)
    rows = {add(receiver=name).pk for name in ("shop.new", "shop.old")}
    add(receiver="shop.other")

    for name in ("shop.new", "shop.old"):
        found = ana.get(f"{LIST}?receiver={name}").context["cl"].result_list
        assert {each.pk for each in found} == rows
