"""Retry, discard and replay: asked about first, then done to exactly what was asked about."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.admin.models import LogEntry
from django.core import signing
from django.test import Client
from django.utils import timezone

from async_signals.models import Delivery, Operation, OperationItem, State

from .conftest import LIST, VERBS, action, add, confirm, page, told

pytestmark = pytest.mark.django_db


def states() -> list[str]:
    return sorted(Delivery.objects.values_list("state", flat=True))


def test_retry_tells_what_the_database_changed(ana) -> None:
    """Two are retried; the third runs, and is left."""
    failed, other, running = add(), add(), add(State.RUNNING)

    asked = action(ana, "retry", failed, other, running)
    assert asked.context["number"] == 3
    assert states() == ["failed", "failed", "running"]
    done = confirm(ana, asked, reason="smtp fixed")

    assert done.redirect_chain == [(LIST, 303)]
    assert told(done) == ["2 retried, 1 left: it is running"]
    assert states() == ["pending", "pending", "running"]
    operation = Operation.objects.get()
    assert (operation.verb, operation.by, operation.via) == ("retry", "ana", "admin")
    assert operation.reason == "smtp fixed"
    assert OperationItem.objects.count() == 3
    assert "2 retried" in LogEntry.objects.get().get_change_message()


def test_discard_wants_a_reason(ana) -> None:
    """Without one the question is asked again, with the answer so far; nothing is done."""
    delivery = add()
    asked = action(ana, "discard", delivery)

    again = confirm(ana, asked, reason="  ")
    assert "Say why" in again.content.decode()
    assert states() == ["failed"]
    done = confirm(ana, again, reason="spam\x00")

    assert told(done) == ["1 discarded"]
    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == ("discarded", "spam")


def test_replay_makes_a_new_delivery(ana) -> None:
    """Also of a success; the message says how many."""
    delivery = add(State.SUCCEEDED)

    done = confirm(ana, action(ana, "replay", delivery))

    assert told(done) == ["1 delivered again"]
    assert states() == ["pending", "succeeded"]


def test_a_second_click_does_not_replay_again(ana) -> None:
    """One answer to one question; who asks again, once it was delivered, gets it again."""
    delivery = add(State.SUCCEEDED)
    asked = action(ana, "replay", delivery)

    first, second = confirm(ana, asked), confirm(ana, asked)

    assert (told(first), told(second)) == (["1 delivered again"], ["This was done already."])
    Delivery.objects.filter(state="pending").update(state="succeeded", due_at=None)
    assert told(confirm(ana, action(ana, "replay", delivery))) == ["1 delivered again"]
    assert states() == ["pending", "succeeded", "succeeded"]


def test_all_that_match_are_frozen_when_asked(ana) -> None:
    """What fails between the question and the answer is not drawn in."""
    add(receiver="shop.wanted"), add(receiver="shop.wanted"), add()

    asked = action(
        ana, "discard", add(receiver="shop.wanted"), query="?receiver=shop.wanted", across=True
    )
    assert asked.context["number"] == 3
    late = add(receiver="shop.wanted")
    done = confirm(ana, asked, reason="too old")

    assert told(done) == ["3 discarded"]
    late.refresh_from_db()
    assert late.state == "failed"
    assert done.redirect_chain[0][0] == f"{LIST}?receiver=shop.wanted"


def test_all_without_a_state_means_what_failed_or_waits(ana) -> None:
    """Who retries all brings nothing back that was discarded on purpose, unless it is named."""
    discarded = add(State.DISCARDED)
    add(), add(State.SUCCEEDED)

    assert action(ana, "retry", discarded, across=True).context["number"] == 1
    asked = action(ana, "retry", discarded, query="?state=discarded", across=True)
    assert asked.context["number"] == 1
    assert told(confirm(ana, asked)) == ["1 retried"]


def test_more_than_one_question_can_hold(ana, monkeypatch) -> None:
    """The oldest are taken, and the page says that there are more."""
    monkeypatch.setattr("async_signals.admin.choice.CAP", 2)
    add(), add(), add()

    asked = action(ana, "retry", add(), across=True)

    assert asked.context["number"] == 2
    assert "There are more." in asked.content.decode()
    assert told(confirm(ana, asked)) == ["2 retried"]


def test_an_empty_question_has_no_button(ana) -> None:
    """All were handled meanwhile: nothing is offered."""
    asked = action(ana, "discard", add(State.SUCCEEDED), across=True)

    assert "There is nothing left to do this to" in asked.content.decode()


def test_the_buttons_of_a_page(ana) -> None:
    """Retry at once; discard and replay by way of the question; back to the page."""
    delivery = add()
    shown = ana.get(page(delivery))

    asked = ana.post(f"{LIST}ask/discard/", {"delivery": str(delivery.pk)})
    assert asked.context["number"] == 1
    assert states() == ["failed"]
    done = ana.post(f"{LIST}do/retry/", {"choice": shown.context["retry_now"]}, follow=True)

    assert done.redirect_chain == [(page(delivery), 303)]
    assert told(done) == ["1 retried"]
    assert LogEntry.objects.get().object_id == str(delivery.pk)
    again = ana.post(f"{LIST}do/retry/", {"choice": shown.context["retry_now"]}, follow=True)
    assert told(again) == ["0 retried, 1 left: it is due already"]


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        (State.FAILED, {"retry", "discard", "replay"}),
        (State.PENDING, {"retry", "discard"}),
        (State.DISCARDED, {"retry", "replay"}),
        (State.SUCCEEDED, {"replay"}),
        (State.RUNNING, set()),
        (State.PUBLISHED, set()),
    ],
)
def test_only_what_is_valid_is_offered(ana, state, offered) -> None:
    """A button that would do nothing is not there."""
    context = ana.get(page(add(state))).context

    found = {verb.name for verb in context["verbs"]} | (
        {"retry"} if context["retry_now"] else set()
    )
    assert found == offered


@pytest.mark.parametrize("state", [State.RUNNING, State.PUBLISHED])
def test_what_nobody_came_for_in_time_can_be_given_up(ana, state) -> None:
    """Its receiver may be gone: no relay here would ever look after it."""
    delivery = add(state, due_at=timezone.now() - dt.timedelta(minutes=1))
    context = ana.get(page(delivery)).context

    assert context["retry_now"]
    assert {verb.name for verb in context["verbs"]} == {"discard"}
    assert told(confirm(ana, action(ana, "discard", delivery), reason="gone")) == ["1 discarded"]


def test_what_was_never_kept_can_only_be_discarded(ana) -> None:
    """Nothing to deliver: no retry, no replay."""
    context = ana.get(page(add(envelope=""))).context

    assert [verb.name for verb in context["verbs"]] == ["discard"]
    assert not context["retry_now"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_own_permission(client_of, ana, verb) -> None:
    """Two of the three permissions do not give the third: not its button, not its URLs."""
    others = [f"{each}_delivery" for each in VERBS if each != verb]
    client = client_of("view_delivery", *others, username="otto")
    delivery = add()
    asked = action(ana, verb, delivery)

    shown = client.get(page(delivery)).context
    assert verb not in {each.name for each in shown["verbs"]}
    assert bool(shown["retry_now"]) == (verb != "retry")
    assert f"{verb}_selected" not in client.get(LIST).content.decode()
    assert "context" not in action(client, verb, delivery).headers
    answers = [
        client.post(f"{LIST}ask/{verb}/", {"delivery": str(delivery.pk)}),
        client.post(f"{LIST}do/{verb}/", {"choice": asked.context["signed"], "reason": "x"}),
    ]

    assert [each.status_code for each in answers] == [403, 403]
    assert states() == ["failed"]
    assert not Operation.objects.exists()


def test_the_permission_alone_is_not_enough(client_of) -> None:
    """Who may retry but not look gets nothing."""
    client = client_of("retry_delivery")
    delivery = add()

    assert client.get(LIST).status_code == 403
    assert client.post(f"{LIST}ask/retry/", {"delivery": str(delivery.pk)}).status_code == 403


@pytest.mark.parametrize("kind", ["another user's", "another verb's", "forged", "old", "none"])
def test_a_choice_that_was_not_given_is_refused(ana, client_of, monkeypatch, kind) -> None:
    """Only the one who was asked can answer, about this, within the hour."""
    delivery = add()
    signed = action(ana, "discard", delivery).context["signed"]
    client, verb = ana, "discard"
    if kind == "another user's":
        client = client_of("view_delivery", "discard_delivery", username="otto")
    elif kind == "another verb's":
        verb = "retry"
    elif kind == "forged":
        signed = signing.dumps({"verb": "discard", "ids": "", "user": "1", "back": "/"})
    elif kind == "old":
        monkeypatch.setattr("async_signals.admin.choice.LONGEST", -1)
    else:
        signed = ""

    done = client.post(f"{LIST}do/{verb}/", {"choice": signed, "reason": "x"}, follow=True)

    assert told(done) == ["Nothing was done: the question was not yours, or older than an hour."]
    assert states() == ["failed"]


def test_only_by_post_and_with_a_token(ana) -> None:
    """A link in a mail cannot do it, nor can a form on another site."""
    delivery = add()
    shown = ana.get(page(delivery)).context["retry_now"]

    assert ana.get(f"{LIST}do/retry/?choice={shown}").status_code == 405
    assert ana.get(f"{LIST}ask/retry/?delivery={delivery.pk}").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = ana.cookies
    assert strict.post(f"{LIST}do/retry/", {"choice": shown}).status_code == 403
    assert strict.post(LIST, {"action": "retry_selected"}).status_code == 403
    assert states() == ["failed"]
    assert ana.post(f"{LIST}do/prune/").status_code == 404
    assert ana.post(f"{LIST}ask/retry/", {"delivery": "x"}).status_code == 404


def test_a_site_that_shows_less_lets_do_less(ana, monkeypatch) -> None:
    """What get_queryset() of the site's own admin leaves out can be neither seen nor retried."""
    from async_signals.admin import DeliveryAdminMixin

    hidden, shown = add(receiver="shop.hidden"), add()
    original = DeliveryAdminMixin.get_queryset
    monkeypatch.setattr(
        DeliveryAdminMixin,
        "get_queryset",
        lambda self, request: original(self, request).exclude(receiver="shop.hidden"),
    )

    assert ana.get(page(hidden)).status_code == 302
    assert ana.post(f"{LIST}ask/retry/", {"delivery": str(hidden.pk)}).status_code == 404
    assert action(ana, "retry", hidden, shown).context["number"] == 1
