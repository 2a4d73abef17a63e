"""The verbs that only look: list, failures, show, stats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone

from .. import stats
from ..models import State
from . import documents
from .moments import age
from .selection import database_of, filter_of, short_ids
from .terminal import Cell

if TYPE_CHECKING:
    import datetime as dt

    from ..models import Attempt, Delivery
    from .terminal import Terminal

__all__ = ["failures", "list_deliveries", "show", "stats_of_all"]

FOUND, NOTHING = 0, 1  # Exit codes.

ROLES = {State.SUCCEEDED: "SUCCESS", State.FAILED: "ERROR", State.DISCARDED: "", State.PENDING: ""}

#: Characters of a message that a line of a table has room for.
EXCERPT = 60


def list_deliveries(terminal: Terminal, options: dict[str, Any]) -> int:
    """Show the newest deliveries that match."""
    limit = options["limit"]
    using = database_of(options)
    found = stats.deliveries(filter_of(options), limit=limit + 1, using=using)
    rows, more = found[:limit], len(found) > limit
    terminal.document({"deliveries": [documents.delivery(row) for row in rows], "more": more})
    if not rows:
        terminal.line("No deliveries in the ledger match. What succeeds at once leaves no row.")
        terminal.next("stats", "doctor")
        return NOTHING
    now, short = timezone.now(), short_ids(row.pk for row in rows)
    terminal.table(
        ("ID", "STATE", "RECEIVER", "SENT", "NEXT", "ATTEMPTS", "ERROR"),
        [
            (
                short[row.pk],
                Cell(row.state, ROLES.get(State(row.state), "WARNING")),
                f"{row.receiver} ({row.size} times)" if row.size > 1 else row.receiver,
                age(row.sent_at, now),
                _next(row, now),
                row.epoch,
                _error(row.exception, row.message),
            )
            for row in rows
        ],
    )
    if more:
        terminal.line(f"The newest {limit}; more with --limit, fewer with --receiver, --state ...")
    terminal.next(f"show {short[rows[0].pk]}", "failures")
    return FOUND


def failures(terminal: Terminal, options: dict[str, Any]) -> int:
    """Show what holds up deliveries, equal failures in one line."""
    using = database_of(options)
    groups = stats.failures(since=options["since"], limit=options["limit"], using=using)
    terminal.document({"groups": [documents.group(group) for group in groups]})
    if not groups:
        terminal.line("No failures.", "SUCCESS")
        terminal.next("stats")
        return FOUND
    now = timezone.now()
    terminal.table(
        ("GROUP", "FAILED", "WAITING", "NEXT", "LAST", "RECEIVER", "ERROR"),
        [
            (
                group.fingerprint,
                Cell(str(group.failed), "ERROR" if group.failed else ""),
                group.waiting,
                age(group.next_at, now),
                age(group.last_at, now),
                group.receiver,
                _error(group.exception, group.message),
            )
            for group in groups
        ],
    )
    first = groups[0].fingerprint
    terminal.next(f"list --group {first}", f"retry --group {first}")
    return NOTHING


def show(terminal: Terminal, options: dict[str, Any]) -> int:
    """Show one delivery with its attempts and what people did to it."""
    view = stats.show(options["id"], using=database_of(options))
    terminal.document(documents.view(view))
    row, now = view.delivery, timezone.now()
    terminal.line(f"Delivery {row.pk}", "MIGRATE_HEADING")
    facts = {
        "state": f"{row.state}{f': {row.reason}' if row.reason else ''}",
        "receiver": row.receiver,
        "signal": row.signal or "-",
        "sender": row.event.sender or "-",
        "about": f"{row.event.instance_model} {row.event.instance_pk}".strip() or "-"
        if row.size == 1
        else f"{row.size} deliveries of one transaction, until a worker unpacks them",
        "sent": f"{row.sent_at.isoformat(timespec='seconds')} ({age(row.sent_at, now)})",
        "next attempt": _next(row, now),
        "holds back": f"{row.holds} that are to run after it" if row.holds else "-",
        "group": row.fingerprint or "-",
        "replay of": row.replay_of_id or "-",
        "payload": row.payload or "-",
    }
    for name, value in facts.items():
        terminal.line(f"  {name:<13} {value}")
    for cause in view.causes:
        known = cause.delivery
        words = f"{known.state}, {known.receiver}" if known else "not in the ledger any more"
        terminal.line(f"  {'caused by':<13} {cause.key} ({words})")
    for each in view.replays:
        terminal.line(f"  {'replayed as':<13} {each.pk} ({each.state}, {each.receiver})")
    for attempt in view.attempts:
        _show_attempt(terminal, attempt, is_full=options["is_full"])
    if view.operations:
        terminal.line("Audit", "MIGRATE_HEADING")
    for item in view.operations:
        done = item.operation
        why = f' "{done.reason}"' if done.reason else ""
        terminal.line(
            f"  {done.started_at.isoformat(timespec='seconds')} {done.by} ({done.via}) "
            f"{done.verb}{why}: {item.outcome}"
        )
    verb = "replay" if row.state == State.SUCCEEDED else "retry"
    terminal.next(f"{verb} {row.pk}")
    return FOUND


def _show_attempt(terminal: Terminal, attempt: Attempt, *, is_full: bool) -> None:
    took = "-" if attempt.duration is None else f"{attempt.duration:.3g} s"
    queued = "-" if attempt.queued is None else f"{attempt.queued:.3g} s"
    terminal.line(f"Attempt {attempt.number}: {attempt.get_outcome_display()}", "MIGRATE_HEADING")
    terminal.line(
        f"  {attempt.started_at.isoformat(timespec='seconds')} on {attempt.worker or '-'}, "
        f"in queue {queued}, ran {took}"
    )
    if attempt.exception:
        terminal.line(f"  {attempt.exception}: {attempt.message}", "ERROR")
    frames = attempt.traceback if is_full else attempt.own_frames or attempt.traceback
    for line in frames.splitlines():
        terminal.line(f"  {line}")


def stats_of_all(terminal: Terminal, options: dict[str, Any]) -> int:
    """Show how the deliveries of all receivers stand."""
    using = database_of(options)
    found, others = stats.summary(using=using), list(stats.elsewhere(using=using))
    terminal.document(documents.summary(found, others))
    for each in others:
        terminal.line(
            f"On database {each.database!r}: {each.failed} failed, {each.waiting} on their way. "
            f"manage.py async_signals stats --database {each.database}",
            "WARNING",
        )
    if not found.receivers:
        terminal.line("The ledger is empty: no delivery has failed, and none waits.", "SUCCESS")
        terminal.next("doctor")
        return FOUND
    terminal.table(
        ("RECEIVER", *(state.upper() for state in State.values), ""),
        [
            (
                each.receiver,
                *(
                    Cell(str(number), "ERROR" if state == State.FAILED and number else "")
                    for state, number in each.states.items()
                ),
                Cell("paused", "WARNING") if each.is_paused else "",
            )
            for each in found.receivers
        ],
    )
    if found.late:
        terminal.line(f"The oldest due delivery is {found.late:.0f} s late.")
    terminal.next("failures" if found.states[State.FAILED] else "list", "doctor")
    return FOUND


def _next(row: Delivery, now: dt.datetime) -> str:
    if row.state != State.PENDING:
        return "-"
    return f"held by {row.held_by}" if row.held_by is not None else age(row.due_at, now)


def _error(exception: str, message: str) -> str:
    words = f"{exception.rpartition('.')[2]}: {message}" if message else exception
    line = words.partition("\n")[0] or "-"
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
