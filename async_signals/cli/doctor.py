"""The verb that looks at everything, and says the cure of what is wrong."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..ledger import aliases, silent
from . import backlog, ledger_health, worker_health
from .finding import ERROR, OK, UNAVAILABLE, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .terminal import Terminal

__all__ = ["doctor"]

MARKS = {
    OK: ("✓", "SUCCESS"),
    WARNING: ("!", "WARNING"),
    ERROR: ("✗", "ERROR"),
    UNAVAILABLE: ("✗", "ERROR"),
}

#: Exit codes; the last is EX_UNAVAILABLE of sysexits.h, which Celery uses too.
WELL, PROBLEMS, NOBODY = 0, 1, 69


def doctor(terminal: Terminal, options: dict[str, Any]) -> int:
    """Show each finding as soon as it is there."""
    if options["backlog"]:
        return backlog.check(terminal)
    findings = []
    for finding in _findings():
        findings.append(finding)
        mark, role = MARKS[finding.level]
        terminal.line(f"{mark} {finding.text}", role)
        if finding.cure:
            terminal.line(f"    {finding.cure}")
    levels = {finding.level for finding in findings}
    code = NOBODY if UNAVAILABLE in levels else PROBLEMS if ERROR in levels else WELL
    terminal.document({"findings": [dataclasses.asdict(each) for each in findings], "exit": code})
    terminal.next("stats" if code == WELL else "doctor")
    return code


def _findings() -> Iterator[Finding]:
    yield from ledger_health.settings()
    first, *others = aliases()
    yield from _of_ledger(first)
    for using in others:  # Nobody has to hear that all is well there.
        yield from (finding for finding in _of_ledger(using) if finding.level != OK)
    for using in silent():
        yield Finding(
            about="ledger",
            level=ERROR,
            text=f"the database {using!r} does not say whether it has deliveries",
            cure="Start it, or look at its settings in DATABASES; manage.py check --database "
            f"{using} says more.",
        )
    yield from ledger_health.spool()
    yield from worker_health.workers()


def _of_ledger(using: str) -> Iterator[Finding]:
    usable = True
    for finding in ledger_health.ledger(using):
        usable = usable and finding.level == OK
        yield finding
    if usable:
        yield from ledger_health.deliveries(using)
