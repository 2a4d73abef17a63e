"""What a person may do to deliveries here, and what it needs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from .. import operations
from ..models import Operation, State
from ..stats import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from django.utils.functional import _StrPromise

    from ..models import Delivery

__all__ = ["DISCARD", "REPLAY", "RETRY", "VERBS", "Verb", "outcome_of"]

#: Reasons for what was left that a message names.
REASONS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One operation on deliveries."""

    name: str
    label: _StrPromise  #: On a button.
    question: Any  #: Lazy: title of the page that asks; with ``number``.
    answer: Any  #: Lazy: on the button below it; with ``number``.
    explanation: _StrPromise
    states: frozenset[str]  #: Those in which it changes a delivery.
    #: Those, too, once it is due: nobody has come for it in time.
    states_when_due: frozenset[str] = frozenset()
    meant: frozenset[str]  #: Those that are meant where none is named.
    needs_reason: bool = False
    is_repeatable: bool = True  #: Done again at once, it changes nothing.
    operate: Callable[..., Operation]

    @property
    def permission(self) -> str:
        """Who may do it."""
        return f"async_signals.{self.name}_delivery"

    def fits(self, delivery: Delivery) -> bool:
        """Whether it would change this delivery."""
        is_fit = delivery.state in self.states or (
            delivery.state in self.states_when_due
            and delivery.due_at is not None
            and delivery.due_at <= timezone.now()
        )
        return bool(delivery.envelope or self is DISCARD) and is_fit

    def run(self, ids: Collection[str], *, by: str, reason: str) -> Operation:
        """Do it to the deliveries of these ids."""
        return self.operate(Filter(ids=tuple(ids)), by=by, via="admin", reason=reason)


RETRY = Verb(
    name="retry",
    label=gettext_lazy("Retry now"),
    question=ngettext_lazy("Retry %(number)s delivery?", "Retry %(number)s deliveries?", "number"),
    answer=ngettext_lazy("Retry %(number)s delivery", "Retry %(number)s deliveries", "number"),
    explanation=gettext_lazy(
        "They are due at once, with all their attempts. What is done is left as it is, and so is "
        "what is running or in the broker, until its time is over."
    ),
    states=frozenset({State.FAILED, State.DISCARDED, State.PENDING}),
    states_when_due=frozenset({State.PUBLISHED, State.RUNNING}),
    meant=frozenset({State.FAILED, State.PENDING}),
    operate=operations.retry,
)
DISCARD = Verb(
    name="discard",
    label=gettext_lazy("Discard"),
    question=ngettext_lazy(
        "Discard %(number)s delivery?", "Discard %(number)s deliveries?", "number"
    ),
    answer=ngettext_lazy("Discard %(number)s delivery", "Discard %(number)s deliveries", "number"),
    explanation=gettext_lazy(
        "They are given up, and not attempted again unless somebody retries them. What is running "
        "or in the broker is left as it is, until its time is over."
    ),
    states=frozenset({State.FAILED, State.PENDING}),
    states_when_due=frozenset({State.PUBLISHED, State.RUNNING}),
    meant=frozenset({State.FAILED, State.PENDING}),
    needs_reason=True,
    operate=operations.discard,
)
REPLAY = Verb(
    name="replay",
    label=gettext_lazy("Replay"),
    question=ngettext_lazy(
        "Replay %(number)s delivery?", "Replay %(number)s deliveries?", "number"
    ),
    answer=ngettext_lazy("Replay %(number)s delivery", "Replay %(number)s deliveries", "number"),
    explanation=gettext_lazy(
        "Each event is delivered once more to the same receiver, as a new delivery, also where it "
        "succeeded. What is still on its way is left as it is."
    ),
    states=frozenset({State.SUCCEEDED, State.FAILED, State.DISCARDED}),
    meant=frozenset({State.SUCCEEDED, State.FAILED, State.DISCARDED}),
    is_repeatable=False,
    operate=operations.replay,
)
VERBS = {verb.name: verb for verb in (RETRY, DISCARD, REPLAY)}


def outcome_of(operation: Operation) -> str:
    """Return what the database says was changed: "2 retried, 1 left: it is running"."""
    number = operation.changed
    done = {
        "retry": ngettext("%(number)s retried", "%(number)s retried", number),
        "discard": ngettext("%(number)s discarded", "%(number)s discarded", number),
        "replay": ngettext("%(number)s delivered again", "%(number)s delivered again", number),
    }[operation.verb]
    left = operation.items.filter(changed=False).order_by().values_list("outcome")
    counted = list(left.annotate(number=Count("pk")).order_by("-number")[: REASONS + 1])
    words = [done % {"number": number}]
    words += [f"{count} {outcome}" for outcome, count in counted[:REASONS]]
    if len(counted) > REASONS:
        words.append(_("others were left, too"))
    return ", ".join(words)
