"""Whether this code can deliver what an earlier release has sent: asked before it is deployed."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from .. import executor, registry
from ..exceptions import DeliveryError
from ..ledger import aliases, silent
from ..models import LIVE_STATES, Delivery, State
from ..wire.envelope import unbundled

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from .terminal import Terminal

__all__ = ["check"]

#: Deliveries that are read at once, bundles of them, and kinds of problems that are named.
CHUNK, BUNDLES, NAMED = 500, 5, 100

WELL, PROBLEMS = 0, 1  # Exit codes.


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one or more deliveries."""

    database: str
    receiver: str
    reason: str


@dataclasses.dataclass(slots=True)
class Backlog:
    """What has been looked at so far."""

    checked: int = 0
    unchecked: int = 0  #: Their upcasters ask a database.
    undeliverable: int = 0
    problems: collections.Counter[Problem] = dataclasses.field(default_factory=collections.Counter)
    first: dict[Problem, uuid.UUID] = dataclasses.field(default_factory=dict)

    def add(self, problem: Problem, key: uuid.UUID, number: int = 1) -> None:
        """Count *number* more deliveries; beyond ``NAMED`` kinds only in the sum."""
        self.undeliverable += number
        if problem in self.first or len(self.first) < NAMED:
            self.problems[problem] += number
            self.first.setdefault(problem, key)


def check(terminal: Terminal) -> int:
    """Look at every delivery that waits or has failed, without running one of them."""
    found = Backlog()
    for database in aliases():
        for row in _rows(database):
            _look(row, database, found)
    unasked = silent()
    code = PROBLEMS if found.undeliverable or unasked else WELL
    terminal.document(
        {
            "checked": found.checked,
            "unchecked": found.unchecked,
            "undeliverable": found.undeliverable,
            "silent": unasked,
            "problems": [
                dataclasses.asdict(problem) | {"number": number, "first": str(found.first[problem])}
                for problem, number in found.problems.most_common()
            ],
            "exit": code,
        }
    )
    _tell(terminal, found, unasked)
    return code


def _rows(database: str) -> Iterator[Delivery]:
    """Yield what has an envelope and is not done, a chunk at a time: drivers buffer a result."""
    rows = Delivery.objects.using(database).filter(state__in=(State.FAILED, *LIVE_STATES))
    rows = rows.exclude(envelope="").only("receiver", "envelope", "size").order_by("pk")
    for kind, chunk in ((rows.filter(size=1), CHUNK), (rows.filter(size__gt=1), BUNDLES)):
        some = list(kind[:chunk])
        while some:
            yield from some
            some = list(kind.filter(pk__gt=some[-1].pk)[:chunk])


def _look(row: Delivery, database: str, found: Backlog) -> None:
    found.checked += row.size
    try:
        receiver, envelopes = registry.get(row.receiver), unbundled(row.envelope, row.size)
    except DeliveryError as exc:
        found.add(Problem(database, row.receiver, str(exc)), row.pk, row.size)
        return
    for envelope in envelopes:
        try:
            reason = executor.rehearse(receiver, envelope)
        except executor.RehearsalError:
            found.unchecked += 1
            continue
        if reason is not None:
            found.add(Problem(database, row.receiver, reason), row.pk)


def _tell(terminal: Terminal, found: Backlog, unasked: list[str]) -> None:
    for database in unasked:
        terminal.line(f"✗ database {database!r} does not answer: not looked at.", "ERROR")
    for problem, number in found.problems.most_common():
        terminal.line(f"✗ {number} to {problem.receiver} on database {problem.database!r}", "ERROR")
        terminal.line(f"    {problem.reason} First: {found.first[problem]}")
    unnamed = found.undeliverable - found.problems.total()
    if unnamed:
        terminal.line(f"... and {unnamed} more, for other reasons.")
    if found.unchecked:
        terminal.line(
            f"! {found.unchecked} were not checked: their upcasters ask a database.", "WARNING"
        )
    if found.undeliverable:
        terminal.line(
            f"{found.undeliverable} of {found.checked} cannot be delivered by this code.", "ERROR"
        )
        terminal.next("doctor --backlog")
    elif not unasked:
        terminal.line(f"This code can deliver all {found.checked} that are not done.", "SUCCESS")
        terminal.next("stats")
