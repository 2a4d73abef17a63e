"""The attempts at a delivery, one after the other, as its page shows them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from . import moments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..models import Attempt

__all__ = ["Step", "steps_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt, in words."""

    attempt: Attempt
    started: str
    lasted: str
    queued: str  #: Empty: nobody knows.
    waited: str  #: Since the attempt before it was over; empty: it is the first.


def steps_of(attempts: Iterable[Attempt]) -> list[Step]:
    """Return the attempts, which come in their order, as steps."""
    steps, over = [], None
    for attempt in attempts:
        waited = (attempt.started_at - over).total_seconds() if over is not None else 0
        steps.append(
            Step(
                attempt=attempt,
                started=moments.exactly(attempt.started_at),
                lasted=_("unknown")
                if attempt.duration is None
                else moments.lasting(attempt.duration),
                queued="" if attempt.queued is None else moments.lasting(attempt.queued),
                waited=moments.lasting(waited) if waited > 0 else "",
            )
        )
        over = attempt.started_at + dt.timedelta(seconds=attempt.duration or 0)
    return steps
