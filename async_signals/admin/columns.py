"""What stands in the cells of a list of deliveries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..models import State
from . import moments

if TYPE_CHECKING:
    import datetime as dt

    from django.utils.safestring import SafeString

    from ..models import Delivery, FailureGroup
    from .links import Links

__all__ = [
    "about_of",
    "breakable",
    "error_and_attempts_of",
    "error_of",
    "moment_of",
    "name_of",
    "next_of",
    "next_words",
    "receiver_of",
    "sent_of",
    "state_of",
]

#: Characters of a message that a cell has room for.
EXCERPT = 100


def state_of(delivery: Delivery) -> SafeString:
    """Return the state, as a word that also has a colour."""
    return format_html(
        '<span class="ledger-state ledger-{}">{}</span>',
        delivery.state,
        delivery.get_state_display(),
    )


def receiver_of(delivery: Delivery) -> SafeString:
    """Return the receiver, and below it the signal that it is for."""
    return format_html(
        '{}<span class="ledger-below ledger-quiet" title="{}">{}</span>',
        name_of(delivery.receiver),
        delivery.signal,
        breakable(delivery.signal.rpartition(".")[2]),
    )


def breakable(name: str) -> SafeString:
    """Return a name of Python that goes on in the next line after a dot, "_" or part of a word."""
    parts = re.split(r"(?<=[._])|(?<=[a-z])(?=[A-Z])", name)
    return format_html_join("", "{}<wbr>", ((part,) for part in parts))


def name_of(path: str) -> SafeString:
    """Return an import path: its last part, and below it where that is."""
    module, _, name = path.rpartition(".")
    return format_html(
        '<span class="ledger-name">{}</span><span class="ledger-below ledger-quiet">{}</span>',
        breakable(name),
        breakable(module),
    )


def error_of(failure: Delivery | FailureGroup) -> SafeString | str:
    """Return the class of the last error and the beginning of its message."""
    if not failure.exception and not failure.message:
        return ""
    return format_html(
        '<span class="ledger-error"><strong>{}</strong> {}</span>',
        breakable(failure.exception.rpartition(".")[2]),
        Truncator(failure.message).chars(EXCERPT),
    )


def error_and_attempts_of(delivery: Delivery) -> SafeString | str:
    """Return the last error, and below it how often it was run; nothing before that."""
    number = delivery.epoch
    if not number:
        return error_of(delivery)
    return format_html(
        '<div>{}<span class="ledger-below ledger-quiet">{}</span></div>',
        error_of(delivery),
        ngettext("%(number)d attempt", "%(number)d attempts", number) % {"number": number},
    )


def about_of(delivery: Any, links: Links) -> str:
    """Return the object that it is about; of a bundle how many deliveries it stands for."""
    if delivery.size == 1:
        return links.to_object(delivery.about_model, delivery.about_key)
    words = _("%(number)s deliveries of one transaction, until a worker unpacks them")
    return words % {"number": f"{delivery.size:,}"}


def sent_of(about: str, sent_at: dt.datetime) -> SafeString:
    """Return what an event is about, and below it when it was sent."""
    return format_html(
        '<div><span class="ledger-object">{}</span>'
        '<span class="ledger-below ledger-quiet">{}</span></div>',
        about,
        moments.exactly(sent_at),
    )


def next_words(delivery: Delivery) -> str:
    """Return what happens next, in words."""
    if delivery.held_by is not None:
        return _("held by %(delivery)s") % {"delivery": delivery.held_by}
    if delivery.state == State.PENDING and delivery.due_at is not None:
        return moments.until(delivery.due_at)
    return {
        State.PUBLISHED: _("waits in the broker"),
        State.RUNNING: _("a worker runs it"),
        State.FAILED: _("waits for a person"),
    }.get(State(delivery.state), "")


def next_of(delivery: Delivery) -> SafeString:
    """Return what happens next, and for an attempt also the time of it."""
    words = next_words(delivery)
    if delivery.state != State.PENDING or delivery.due_at is None or delivery.held_by is not None:
        return format_html('<span class="ledger-below ledger-quiet">{}</span>', words)
    return moment_of(delivery.due_at)


def moment_of(due_at: dt.datetime) -> SafeString:
    """Return how long it is until then, and when that is."""
    return format_html(
        '<span class="ledger-below"><span class="ledger-next">{}</span> '
        '<span class="ledger-below ledger-quiet">{}</span></span>',
        moments.until(due_at),
        moments.exactly(due_at),
    )
