"""
Run robust deliveries: claim > run > classify > record > announce.

Knows neither Celery nor the broker. What a receiver raises stays here; the task is told what
became of the delivery.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from django.db import connections, transaction

from . import executor, registry
from .exceptions import EnvelopeError, MissingInstanceError
from .ledger import alias, bundles, claims, due, records
from .ledger.clock import seconds_since
from .ledger.deaths import take_dead_claims
from .ledger.failures import failure_of
from .ledger.keys import with_keys
from .ledger.leases import kept
from .ledger.masking import mask_for
from .ledger.patience import patiently
from .ledger.pausing import paused
from .ledger.turns import HeldError
from .models import Outcome
from .processes import new_claimant
from .results import (
    EXPIRED,
    Result,
    tell,
    tell_callback,
    tell_deaths,
    tell_expiry,
    tell_failure,
    tell_lost,
    tell_success,
)
from .signals import delivery_failed
from .wire.envelope import Envelope, Reference, unpack_to_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ledger.claims import Run
    from .registry import Receiver

__all__ = ["run"]

#: Seconds before a delivery of a paused receiver is looked at again, or one that is held.
PAUSE = 5.0


def run(wire: object, *, name: str, worker: str, alone: bool = False) -> list[Result]:
    """
    Run the receiver called *name* for every delivery in *wire* that this worker can claim.

    Args:
        wire: The message.
        name: Of the receiver, or an alias of it.
        worker: Who runs it, for people.
        alone: Run none of several stored ones, and return them, each for a message of its own.

    Raises:
        DatabaseError: The ledger cannot be reached, and some or none of them have been run.
        EnvelopeError: Nobody can say which deliveries these are, or what is in one of them; the
            others have been run.
        ReceiverNotFoundError: This process has no receiver of that name.
    """
    receiver = registry.get(name)
    results, unread = [], None
    deliveries = unpack_to_keep(wire)
    stored = [delivery for delivery, _ in deliveries if isinstance(delivery, Reference)]
    if alone and 1 < len(stored) == len(deliveries):
        return _taken_apart(stored)
    for delivery, text in deliveries:
        try:
            results.append(_run(receiver, delivery, text, worker))
        except EnvelopeError as exc:
            unread = unread or exc
    if unread is not None:
        raise unread
    return results


def _taken_apart(references: list[Reference]) -> list[Result]:
    """Return deliveries as they came, to be published; should this process die, they are due."""
    by_alias: dict[str, list[due.Due]] = {}
    for each in references:
        by_alias.setdefault(each.using, []).append(due.Due(each))
    return [
        Result(delivery=ready[0].reference.id, state="unpacked", unpacked=(ready, using))
        for using, ready in by_alias.items()
    ]


def _run(receiver: Receiver, delivery: Envelope | Reference, text: str, worker: str) -> Result:
    claimed = _claim(receiver, delivery, text, worker)
    if claimed is None:
        return Result(delivery=delivery.id, state="skipped")
    if claimed.bundled:
        return _unpack(claimed)
    result = _attempt(receiver, claimed)
    if claimed.order is None or result.state == "retrying":
        return result
    return dataclasses.replace(result, next_of=(claimed.order, claimed.using))


def _unpack(claimed: Run) -> Result:
    ready = patiently(lambda: bundles.unpacked(claimed), claimed.using)
    if ready is None:
        return tell_lost(claimed)
    return Result(delivery=claimed.envelope.id, state="unpacked", unpacked=(ready, claimed.using))


def _attempt(receiver: Receiver, claimed: Run) -> Result:
    if _has_expired(receiver, claimed):
        patiently(lambda: records.discarded(claimed, EXPIRED), claimed.using)
        return tell_expiry(claimed)
    started = time.monotonic()
    if claimed.is_stored and receiver.options.effect == "once":
        return _run_once(receiver, claimed, started)
    with kept(claimed):
        raised = _call(receiver, claimed)
    duration = time.monotonic() - started
    _drop_if_left_open(claimed.using)
    if raised is None:
        return _succeed(claimed, duration)
    return _fail(receiver, claimed, raised, duration)


def _drop_if_left_open(using: str) -> None:
    """
    Drop a connection that a receiver took out of autocommit, as Celery does after each task.

    Nothing would be committed on it, the result neither.
    """
    connection = connections[using]
    is_open = connection.connection is not None
    if is_open and not connection.autocommit and not connection.in_atomic_block:
        connection.close()


class _RollBackError(Exception):
    """Ends a transaction whose effect must not stay; never leaves this module."""


def _run_once(receiver: Receiver, claimed: Run, started: float) -> Result:
    """Run with call and success in one transaction: what it wrote stays if its claim held."""
    raised: _Raised | None = None
    try:
        # The lease is let go first: until the commit, whoever would renew it waits for the row.
        # What the receiver has left for after the commit is its own doing, too.
        with (
            executor.running_as(receiver, claimed.envelope, attempt=claimed.epoch),
            transaction.atomic(using=claimed.using),
            kept(claimed),
        ):
            raised = _call(receiver, claimed)
            duration = time.monotonic() - started
            if raised is not None or not records.succeeded(claimed, duration):
                raise _RollBackError  # noqa: TRY301  (it has to pass the end of the block)
    except _RollBackError:
        if raised is None:
            return tell_lost(claimed)
    except BaseException as exc:
        _drop_if_left_open(claimed.using)
        if patiently(lambda: records.is_recorded(claimed), claimed.using):
            tell_callback(receiver, claimed, exc)
        elif isinstance(exc, Exception):
            raised = _Raised(exc, {})
        else:  # Between the receiver and the commit: the process is to end.
            raise
    duration = time.monotonic() - started
    if raised is None:
        return tell_success(claimed, duration)
    return _fail(receiver, claimed, raised, duration)


def _has_expired(receiver: Receiver, claimed: Run) -> bool:
    expires = receiver.options.expires
    return expires is not None and seconds_since(claimed.since, claimed.using) > expires


def _claim(
    receiver: Receiver, delivery: Envelope | Reference, text: str, worker: str
) -> Run | None:
    using = alias()
    if not patiently(paused, using).isdisjoint(receiver.names):
        _wait(delivery)
        return None
    claimant = new_claimant()
    if isinstance(delivery, Envelope):
        claimed = patiently(
            lambda: claims.claim(delivery, text, worker=worker, claimant=claimant),
            using,
            found=lambda: claims.own_claim(delivery, text, worker=worker, claimant=claimant),
        )
        if claimed is None:
            _bury(delivery.id)
        return claimed
    try:
        return patiently(
            lambda: claims.claim_stored(delivery, worker=worker, claimant=claimant),
            delivery.using,
            found=lambda: claims.own_claim_stored(delivery, claimant=claimant),
        )
    except HeldError:
        due.give_back([delivery.id], delivery.using, wait=PAUSE)
        return None
    except EnvelopeError as exc:  # For a person to retry, after a deploy or with the lost key.
        failure = failure_of(exc, mask_for((), None, None), receiver=receiver.name)
        unread = patiently(lambda: records.unread(delivery, failure), delivery.using)
        if unread is not None:
            tell(delivery_failed, unread, exception=exc, failure=failure)
        raise


def _wait(delivery: Envelope | Reference) -> None:
    """Leave a delivery of a paused receiver to the ledger, where it waits."""
    if isinstance(delivery, Envelope):
        patiently(lambda: records.stored([delivery], using=alias()), alias())
    else:
        due.give_back([delivery.id], delivery.using, wait=PAUSE)


def _bury(id: str) -> None:  # noqa: A002
    """Where the one who claimed a delivery has died, need not wait for the end of its lease."""
    if claims.dead_claim(id, alias()):
        tell_deaths(take_dead_claims(alias(), limit=1, ids=[id]))


def _call(receiver: Receiver, claimed: Run) -> _Raised | None:
    """Call the receiver; return what it raised, and whether the fault was its own."""
    prepared: executor.Call | None = None
    try:
        prepared = executor.prepare(receiver, claimed.envelope)
        if prepared is not None:
            executor.call(prepared, attempt=claimed.epoch)
    except BaseException as exc:  # noqa: BLE001  (SystemExit, too, is a failed attempt here)
        return _Raised(exc, prepared.kwargs if prepared is not None else None)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class _Raised:
    exc: BaseException
    kwargs: dict[str, object] | None  #: The receiver's; None: it was not called.


def _succeed(claimed: Run, duration: float) -> Result:
    if not _record(claimed, lambda: records.succeeded(claimed, duration)):
        return tell_lost(claimed)
    return tell_success(claimed, duration)


def _record(claimed: Run, write: Callable[[], bool]) -> bool:
    """Write a result; False: it does not count, since the claim was taken away."""
    return patiently(write, claimed.using, found=lambda: records.is_recorded(claimed))


def _fail(receiver: Receiver, claimed: Run, raised: _Raised, duration: float) -> Result:
    exc = raised.exc
    known = with_keys(raised.kwargs, claimed.envelope.kwargs)
    mask = mask_for(receiver.options.sensitive, known, exc)
    failure = failure_of(exc, mask, receiver=receiver.name)
    wait = patiently(lambda: _wait_after(receiver, claimed, exc), claimed.using)
    if not claimed.is_stored:
        since_sent = patiently(lambda: seconds_since(claimed.since, claimed.using), claimed.using)
        claimed = dataclasses.replace(claimed, queued=max(0.0, since_sent - duration))
    held = _record(
        claimed,
        lambda: records.failed(
            claimed,
            failure,
            mask,
            wait=wait,
            duration=duration,
            outcome=Outcome.RAISED if raised.kwargs is not None else Outcome.REFUSED,
        ),
    )
    if not held:
        return tell_lost(claimed)
    return tell_failure(claimed, exc, failure, wait)


def _wait_after(receiver: Receiver, claimed: Run, exc: BaseException) -> float | None:
    retry = receiver.options.retry
    if isinstance(exc, MissingInstanceError) and receiver.options.missing != "retry":
        return None
    age = seconds_since(claimed.since, claimed.using) if retry.deadline is not None else 0
    return retry.wait_after(exc, attempts=claimed.attempts + 1, age=age)
