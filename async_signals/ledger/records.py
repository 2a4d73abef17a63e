"""
What is written down of a delivery: that it waits, each attempt, and how it ended.

Whatever belongs together is written in one transaction, and only while the claim holds.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F

from .. import delivery as delivery_of_user
from ..models import Attempt, Claim, Delivery, Outcome, State
from ..retry import LONGEST_WAIT
from ..wire.envelope import Envelope, dump
from .claims import held_row, receipt, run_of
from .clock import Now
from .groups import seen
from .outgoing import insert_events
from .payloads import mask_of, payload_of, signal_label
from .receipts import write_receipt
from .telling import tell_failed
from .turns import end, leave, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.envelope import Reference
    from .claims import Run
    from .failures import Failure
    from .masking import Mask

__all__ = [
    "blank_envelope",
    "delivery_of",
    "failed",
    "insert_rows",
    "is_recorded",
    "new_row",
    "stored",
    "stored_unread",
    "succeeded",
    "unread",
]


def stored(
    envelopes: Sequence[Envelope],
    *,
    using: str,
    wait: float = 0,
    failure: Failure | None = None,
    final: bool = False,
    deliverable: bool = True,
    told: bool = True,
) -> list[Envelope]:
    """
    Put deliveries that no worker has claimed into the ledger, pending.

    Args:
        envelopes: Deliveries that travelled whole, or could not.
        using: Alias of the ledger's database.
        wait: Seconds before the relay publishes them.
        failure: Why, where a person should see a reason.
        final: Failed, not pending: they wait for a person.
        deliverable: Whether there is anything to deliver again.
        told: Whether it is announced that they have failed.

    Returns:
        Those that are in the ledger now; a worker was faster with the others.
    """
    while True:
        try:
            with transaction.atomic(using=using):
                new = _stored(
                    envelopes,
                    using,
                    failure,
                    deliverable=deliverable,
                    **(_final(failure) if final else _due(wait)),
                )
                if new and final and told and failure is not None:
                    tell_failed(new, failure, using)
                return new
        except IntegrityError:
            # A worker claimed one between the look and the insert; the next look sees it.
            known = _claimed(envelopes, using)
            if not known:
                raise


def _stored(
    envelopes: Sequence[Envelope],
    using: str,
    failure: Failure | None,
    *,
    deliverable: bool,
    **standing: Any,
) -> list[Envelope]:
    known = _claimed(envelopes, using)
    new = [each for each in envelopes if each.id not in known]
    if not new:
        return []
    claims = Claim._base_manager.using(using)
    claims.bulk_create(
        Claim(id=each.id, receiver=each.receiver, expires_at=Now(), started_at=Now())
        for each in new
    )
    receipt(claims.filter(pk__in=[each.id for each in new]))
    rows = [
        new_row(each, mask_of(each), dump(each) if deliverable else "", failure, **standing)
        for each in new
    ]
    insert_rows(rows, new, using)
    if failure is not None:
        for each in new:
            seen(each.id, each.receiver, failure, using)
    return new


def stored_unread(
    text: str,
    failure: Failure,
    *,
    receiver: str,
    id: str,  # noqa: A002
    using: str,
) -> None:
    """Put a delivery into the ledger, failed, of which nothing can be read but its receiver."""
    blank = blank_envelope(id, receiver, dt.datetime.now(dt.UTC))
    with transaction.atomic(using=using):
        if not _claimed([blank], using):
            claims = Claim._base_manager.using(using)
            claims.bulk_create(
                [Claim(id=id, receiver=receiver, expires_at=Now(), started_at=Now())]
            )
            receipt(claims.filter(pk=id))
            insert_rows([new_row(blank, None, text, failure, **_final(failure))], [blank], using)
            seen(id, receiver, failure, using)
            tell_failed([blank], failure, using)


def blank_envelope(id: str, receiver: str, sent_at: dt.datetime) -> Envelope:  # noqa: A002
    """Return what stands for an envelope that nobody can read."""
    return Envelope(
        id=id,
        event_id=id,
        receiver=receiver,
        signal=None,
        sent=sent_at.isoformat(),
        sender=None,
        kwargs={},
    )


def _claimed(envelopes: Sequence[Envelope], using: str) -> set[str]:
    rows = Claim._base_manager.using(using).filter(pk__in=[each.id for each in envelopes])
    return {str(pk) for pk in rows.values_list("pk", flat=True)}


def succeeded(run: Run, duration: float) -> bool:
    """Write that *run* succeeded, in *duration* seconds; False: its claim was taken away."""
    if not run.is_stored:
        return _write_receipt(run)
    with transaction.atomic(using=run.using):
        held = held_row(run).update(
            state=State.SUCCEEDED, due_at=None, finished_at=Now(), reason=""
        )
        if held:
            _insert_attempt(run, Outcome.SUCCEEDED, duration, None)
            if run.order is not None:
                end([run.envelope.id], run.using)
    return bool(held)


def _write_receipt(run: Run) -> bool:
    return write_receipt(run.envelope.id, receiver=run.envelope.receiver, using=run.using)


def failed(
    run: Run,
    failure: Failure,
    mask: Mask,
    *,
    wait: float | None,
    duration: float,
    reason: str = "",
    outcome: Outcome = Outcome.RAISED,
) -> bool:
    """
    Write that *run* failed; False: its claim was taken away.

    Args:
        run: The attempt.
        failure: What it raised, masked.
        mask: For the payload that people see.
        wait: Seconds until the next attempt; None: it has failed for good.
        duration: Seconds that it took.
        reason: Why there is no other attempt.
        outcome: Raised, or refused where the receiver was never called.
    """
    standing = _final(failure, reason) if wait is None else _due(wait)
    with transaction.atomic(using=run.using):
        if run.is_stored:
            held = held_row(run).update(attempts=F("attempts") + 1, **standing, **_last(failure))
        else:
            held = _write_receipt(run)
            if held:
                row = new_row(run.envelope, mask, run.text, failure, **standing)
                row.epoch, row.attempts, row.worker = run.epoch, run.attempts + 1, run.worker
                row.started_at = _ago(duration)
                insert_rows([row], [run.envelope], run.using)
        if held:
            _insert_attempt(run, outcome, duration, failure)
            id, receiver = run.envelope.id, run.envelope.receiver  # noqa: A001
            seen(id, receiver, failure, run.using, before=run.fingerprint)
            if run.order is not None:
                is_over = wait is None and passes(receiver)
                leave(id, run.using, is_over=is_over, ready=not wait)
    return bool(held)


def discarded(run: Run, reason: str) -> bool:
    """Write that *run* is given up, before its receiver was called; False: it was taken away."""
    standing = {
        "state": State.DISCARDED,
        "due_at": None,
        "finished_at": Now(),
        "reason": reason,
    }
    with transaction.atomic(using=run.using):
        if run.is_stored:
            held = bool(held_row(run).update(**standing))
            if held and run.order is not None:
                end([run.envelope.id], run.using)
            return held
        held = _write_receipt(run)
        if held:
            row = new_row(run.envelope, mask_of(run.envelope), run.text, None, **standing)
            row.epoch, row.worker = run.epoch, run.worker
            insert_rows([row], [run.envelope], run.using)
    return held


def is_recorded(run: Run) -> bool:
    """
    Whether a result of this very run is written, though nobody has said so.

    A database that commits and then goes away leaves its answer out. What is found then is this
    run's own: no other has its number, and only a worker's death is written by somebody else.
    """
    attempts = Attempt._base_manager.using(run.using).filter(
        delivery_id=run.envelope.id, number=run.epoch
    )
    if attempts.exclude(outcome=Outcome.DIED).exists():
        return True
    if run.is_stored:
        return False
    # What succeeds at once leaves a receipt; whoever else writes one adds a row.
    receipts = Claim._base_manager.using(run.using).filter(pk=run.envelope.id, done=True)
    rows = Delivery._base_manager.using(run.using).filter(pk=run.envelope.id)
    return receipts.exists() and not rows.exists()


def unread(reference: Reference, failure: Failure) -> Run | None:
    """
    Write that nobody here can read what was claimed: a refused attempt, and failed.

    Returns:
        The attempt, with a blank for the envelope; None: it was taken away.
    """
    using = reference.using
    rows = Delivery._base_manager.using(using).filter(
        pk=reference.id, state=State.RUNNING, epoch=reference.epoch + 1
    )
    row = rows.first()
    if row is None:
        return None
    blank = blank_envelope(reference.id, reference.receiver, row.sent_at)
    known = blank._replace(event_id=str(row.event_id), replay=row.replay_of_id is not None)
    run = run_of(row, known, using)
    with transaction.atomic(using=using):
        if not rows.update(attempts=F("attempts") + 1, **_final(failure), **_last(failure)):
            return None
        _insert_attempt(run, Outcome.REFUSED, 0, failure)
        seen(reference.id, reference.receiver, failure, using, before=row.fingerprint)
        if reference.ordered:
            leave(reference.id, using, is_over=passes(reference.receiver))
    return run


def delivery_of(
    row: Delivery, *, attempt: int, chain: tuple[str, ...] = ()
) -> delivery_of_user.Delivery:
    """Return what signals are told about the delivery of *row*, which *chain* has caused."""
    return delivery_of_user.Delivery(
        id=str(row.pk),
        event_id=str(row.event_id),
        receiver=row.receiver,
        attempt=attempt,
        sent_at=row.sent_at,
        replay=row.replay_of_id is not None,
        chain=chain,
    )


def new_row(
    envelope: Envelope, mask: Mask | None, text: str, failure: Failure | None, **standing: Any
) -> Delivery:
    """Return the row of a delivery that travelled whole; *standing* is what it comes to."""
    return Delivery(
        id=envelope.id,
        event_id=envelope.event_id,
        receiver=envelope.receiver,
        signal=signal_label(envelope),
        sent_at=envelope.sent_at,
        envelope=text,
        payload="" if mask is None else payload_of(envelope, mask),
        **standing,
        **_last(failure),
    )


def _last(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {}
    return {
        "exception": failure.exception,
        "message": failure.message,
        "fingerprint": failure.fingerprint,
    }


def _due(wait: float) -> dict[str, Any]:
    later = dt.timedelta(seconds=min(wait, LONGEST_WAIT))
    return {"state": State.PENDING, "due_at": Now() + later, "reason": ""}


def _final(failure: Failure | None, reason: str = "") -> dict[str, Any]:
    return {
        "state": State.FAILED,
        "due_at": None,
        "finished_at": Now(),
        "reason": reason or (failure.message if failure is not None else ""),
    }


def _ago(seconds: float) -> Any:
    return Now() - dt.timedelta(seconds=seconds)


def insert_rows(rows: list[Delivery], envelopes: Sequence[Envelope], using: str) -> None:
    """Insert deliveries, and their events where they are not there yet."""
    insert_events(envelopes, using)
    Delivery._base_manager.using(using).bulk_create(rows)


def _insert_attempt(run: Run, outcome: Outcome, duration: float, failure: Failure | None) -> None:
    attempt = Attempt(
        delivery_id=run.envelope.id,
        number=run.epoch,
        outcome=outcome,
        started_at=_ago(duration),
        duration=duration,
        queued=run.queued,
        worker=run.worker,
    )
    if failure is not None:
        attempt.exception = failure.exception
        attempt.message = failure.message
        attempt.own_frames = failure.own_frames
        attempt.traceback = failure.traceback
        attempt.fingerprint = failure.fingerprint
    Attempt._base_manager.using(run.using).bulk_create([attempt])
