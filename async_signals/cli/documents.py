"""The documents of ``--json``: stable, described in ``docs/command.md``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt

    from ..models import Attempt, Delivery, Operation, OperationItem
    from ..stats import DeliveryView, Elsewhere, Group, Summary

__all__ = ["delivery", "group", "operation", "summary", "view"]

#: Items of an operation that a document holds; the rest are counted.
ITEMS = 1000


def _moment(value: dt.datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def delivery(row: Delivery) -> dict[str, Any]:
    """Return a delivery as a list shows it."""
    return {
        "id": str(row.pk),
        "event": str(row.event_id),
        "receiver": row.receiver,
        "signal": row.signal or None,
        "sender": row.event.sender or None,
        "state": row.state,
        "size": row.size,
        "sent_at": _moment(row.sent_at),
        "due_at": _moment(row.due_at),
        "started_at": _moment(row.started_at),
        "finished_at": _moment(row.finished_at),
        "attempts": row.epoch,
        "deaths": row.deaths,
        "exception": row.exception or None,
        "message": row.message or None,
        "fingerprint": row.fingerprint or None,
        "reason": row.reason or None,
        "replay_of": str(row.replay_of_id) if row.replay_of_id else None,
        "held_by": str(row.held_by) if row.held_by else None,
    }


def view(shown: DeliveryView) -> dict[str, Any]:
    """Return a delivery with all that is known of it."""
    return delivery(shown.delivery) | {
        "payload": shown.delivery.payload or None,
        "holds": shown.delivery.holds,
        "next_at": _moment(shown.next_at),
        "causes": [str(cause.key) for cause in shown.causes],
        "replays": [str(row.pk) for row in shown.replays],
        "attempt_list": [_attempt(attempt) for attempt in shown.attempts],
        "operations": [
            _header(item.operation) | {"changed": item.changed, "outcome": item.outcome}
            for item in shown.operations
        ],
    }


def _attempt(row: Attempt) -> dict[str, Any]:
    return {
        "number": row.number,
        "outcome": row.outcome,
        "started_at": _moment(row.started_at),
        "duration": row.duration,
        "queued": row.queued,
        "worker": row.worker or None,
        "exception": row.exception or None,
        "message": row.message or None,
        "own_frames": row.own_frames or None,
        "traceback": row.traceback or None,
        "fingerprint": row.fingerprint or None,
    }


def group(row: Group) -> dict[str, Any]:
    """Return a group of failures."""
    return {
        "fingerprint": row.fingerprint,
        "receiver": row.receiver,
        "exception": row.exception,
        "message": row.message or None,
        "failed": row.failed,
        "waiting": row.waiting,
        "first_at": _moment(row.first_at),
        "last_at": _moment(row.last_at),
        "next_at": _moment(row.next_at),
    }


def summary(found: Summary, others: list[Elsewhere]) -> dict[str, Any]:
    """Return how all deliveries stand."""
    return {
        "states": dict(found.states),
        "receivers": [
            {"receiver": each.receiver, "paused": each.is_paused, "states": dict(each.states)}
            for each in found.receivers
        ],
        "oldest_due_at": _moment(found.oldest_due_at),
        "late": found.late,
        "elsewhere": [dataclasses.asdict(each) for each in others],
    }


def _header(row: Operation) -> dict[str, Any]:
    return {
        "operation": str(row.pk) if row.pk else None,
        "verb": row.verb,
        "by": row.by,
        "via": row.via,
        "reason": row.reason or None,
        "target": row.target,
        "started_at": _moment(row.started_at),
        "finished_at": _moment(row.finished_at),
    }


def operation(row: Operation, items: list[OperationItem]) -> dict[str, Any]:
    """Return an operation with what it came to for each delivery."""
    return _header(row) | {
        "dry_run": False,
        "total": row.total,
        "changed": row.changed,
        "unchanged": row.unchanged,
        "items": [
            {"id": str(item.delivery), "changed": item.changed, "outcome": item.outcome}
            for item in items[:ITEMS]
        ],
    }
