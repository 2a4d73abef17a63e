"""The verbs that change: retry, discard, replay, pause, resume, prune."""

from __future__ import annotations

import functools
import getpass
import os
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from .. import operations
from ..operations import Rehearsal
from ..stats import Filter
from . import documents
from .progress_bar import progress_bar
from .selection import database_of, filter_of, short_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

    from ..models import Delivery, Operation, OperationItem
    from .terminal import Terminal

__all__ = ["change", "pause_or_resume", "prune"]

DONE, NOTHING, USAGE = 0, 1, 2  # Exit codes.

#: A dry run, and prune before it asks, count no more.
CAP = 100_000

#: Deliveries, and outcomes, that are named one by one.
NAMED = 10


def change(terminal: Terminal, options: dict[str, Any]) -> int:
    """Retry, discard or replay what was selected."""
    verb = options["verb"]
    wanted = filter_of(options)
    if wanted == Filter() and not options["all"]:
        raise CommandError(
            f"cannot {verb}: expected ids, something that narrows the deliveries, or --all, got: "
            f"neither. Try: manage.py async_signals {verb} --receiver NAME --dry-run",
            returncode=USAGE,
        )
    using = database_of(options)
    to = {"to": options["to"]} if verb == "replay" else {}
    cap = CAP if options["dry_run"] else None
    planned = operations.rehearse(verb, wanted, limit=options["limit"], cap=cap, using=using, **to)
    run = functools.partial(
        getattr(operations, verb), planned.frozen, reason=options["reason"], using=using, **to
    )
    found = operations.candidates(verb, wanted, using=using)
    return _counted(terminal, options, found, planned, run, f"({wanted})")


def prune(terminal: Terminal, options: dict[str, Any]) -> int:
    """Delete what is over."""
    older_than, using = options["older_than"], database_of(options)
    found = operations.prunable(older_than, using=using)
    run = functools.partial(
        operations.prune,
        older_than=older_than,
        limit=options["limit"],
        reason=options["reason"],
        using=using,
    )
    number = found[: options["limit"] or CAP].count()
    is_cut = options["limit"] is None and number == CAP
    planned = Rehearsal(total=number, changed=number, is_cut=is_cut)
    return _counted(terminal, options, found, planned, run, "whose time is over")


def _counted(
    terminal: Terminal,
    options: dict[str, Any],
    found: QuerySet[Delivery],
    planned: Rehearsal,
    run: Callable[..., Operation],
    which: str,
) -> int:
    """Say how many, ask, do, report."""
    verb, number, words = options["verb"], planned.total, _words(planned)
    if number == 0 and verb != "prune":
        terminal.document({"dry_run": options["dry_run"], "total": 0, "changed": 0, "items": []})
        terminal.line(f"Nothing to {verb}: no delivery matches {which}.")
        terminal.next("failures", "list")
        return NOTHING
    if options["dry_run"]:
        return _rehearse(terminal, verb, found, planned, f"{words} {which}")
    if not options["yes"]:
        answer = terminal.ask(f"{verb.capitalize()} {words} {which}?")
        if answer is None:
            raise CommandError(
                f"cannot {verb} {words}: expected a person to say yes, got: no terminal. Pass "
                "--yes, or look first with --dry-run.",
                returncode=USAGE,
            )
        if not answer:
            terminal.document({"dry_run": False, "total": number, "changed": 0, "items": []})
            terminal.line("Nothing was changed.")
            return NOTHING
    with progress_bar(terminal, verb) as progress:
        done = run(by=account(), via="command", progress=progress)
    return _report(terminal, done)


def _words(planned: Rehearsal) -> str:
    """Return how many: "2 deliveries", and "1 of 2 deliveries" where the other one is left."""
    some = f"{planned.changed} of " if planned.changed < planned.total else ""
    number = f"{planned.total}{'+' if planned.is_cut else ''}"
    return f"{some}{number} deliver{'y' if planned.total == 1 else 'ies'}"


def _rehearse(
    terminal: Terminal, verb: str, found: QuerySet[Delivery], planned: Rehearsal, words: str
) -> int:
    number = planned.total
    rows = list(found.order_by("sent_at", "pk").only("receiver", "state")[: min(number, NAMED)])
    terminal.document(
        {
            "dry_run": True,
            "total": number,
            "changed": 0,
            "would_change": planned.changed,
            "items": [{"id": str(row.pk), "changed": False, "outcome": row.state} for row in rows],
        }
    )
    short = short_ids([row.pk for row in rows])
    terminal.line(f"Would {verb} {words}; nothing was changed.")
    if rows:
        terminal.table(
            ("ID", "STATE", "RECEIVER"),
            [(short[row.pk], row.state, row.receiver) for row in rows],
        )
    if number > len(rows):
        terminal.line(f"... and {number - len(rows)} more.")
    terminal.next("list", "failures")
    return DONE if planned.changed else NOTHING


def _report(terminal: Terminal, done: Operation) -> int:
    is_stored = done.pk is not None
    items: list[OperationItem] = []
    if is_stored:
        items = list(done.items.using(done._state.db).order_by("pk")[: documents.ITEMS])
    terminal.document(documents.operation(done, items))
    terminal.line(
        f"{done.verb}: {done.changed} changed, {done.unchanged} left as they were.",
        "SUCCESS" if done.changed else "WARNING",
    )
    left = [item for item in items if not item.changed]
    for item in left[:NAMED] if done.changed else left[:NAMED] or items[:NAMED]:
        terminal.line(f"  {item.delivery} {item.outcome}")
    if done.unchanged > NAMED:
        terminal.line(f"  ... and {done.unchanged - NAMED} more; see --json.")
    if len(items) == 1:
        terminal.next(f"show {items[0].delivery}")
    else:
        terminal.next("stats", "failures")
    return DONE if done.changed or done.verb == "prune" else NOTHING


def pause_or_resume(terminal: Terminal, options: dict[str, Any]) -> int:
    """Let the deliveries of a receiver wait, or go on."""
    verb = options["verb"]
    run = operations.pause if verb == "pause" else operations.resume
    done = run(options["receiver"], by=account(), via="command", reason=options["reason"])
    terminal.document(documents.operation(done, []))
    name = done.target.removeprefix("receiver=")
    if verb == "pause":
        already = "" if done.changed else " already"
        terminal.line(f"{name} is{already} paused: its deliveries wait, none fails.", "SUCCESS")
        terminal.next(f"resume {name}")
    else:
        terminal.line(f"{name} {'goes on' if done.changed else 'was not paused'}.", "SUCCESS")
        terminal.next(f"list --receiver {name}")
    return DONE


def account() -> str:
    """Return the name of the host's account that runs the command; not what LOGNAME says it is."""
    try:
        import pwd  # noqa: PLC0415  (Windows has none)
    except ImportError:
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # In a container, a number without a name.
        return f"uid {os.getuid()}"
