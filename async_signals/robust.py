"""
Run robust deliveries: claim > run > classify > record > announce.

Knows neither Celery nor the broker. What a receiver raises stays here; the task is told what
became of the delivery.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Literal

from django.db import connections, transaction

from . import executor, registry
from .announcing import announce
from .conf import get_settings
from .exceptions import (
    EnvelopeError,
    MissingInstanceError,
)
from .ledger import alias, claims, due, records
from .ledger.clock import seconds_since
from .ledger.failures import failure_of
from .ledger.keys import with_keys
from .ledger.leases import kept
from .ledger.masking import mask_for
from .ledger.patience import patiently
from .ledger.pausing import paused
from .ledger.turns import HeldError
from .models import Outcome
from .signals import delivery_discarded, delivery_failed, delivery_retrying, delivery_succeeded
from .wire.envelope import Envelope, dump, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.dispatch import Signal

    from .ledger.claims import Run
    from .ledger.failures import Failure
    from .registry import Receiver
    from .wire.envelope import Reference

__all__ = ["Result", "run", "tell_deaths"]

logger = logging.getLogger("async_signals")

#: The reason of what was discarded because it came too late.
EXPIRED = "expired before a worker had it"

#: Seconds before a delivery of a paused receiver is looked at again, or one that is held.
PAUSE = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a worker made of one delivery."""

    delivery: str  #: Its id.
    state: Literal["succeeded", "retrying", "failed", "skipped"]  #: Skipped: it was not to be run.
    told: str = ""  #: Masked: what was raised, and what follows.
    wait: float = 0  #: Retrying: seconds, at least.
    #: Key and database of those of which the next one may run now; None: there are none.
    next_of: tuple[str, str] | None = None


def run(wire: object, *, name: str, worker: str) -> list[Result]:
    """
    Run the receiver called *name* for every delivery in *wire* that this worker can claim.

    Raises:
        DatabaseError: The ledger cannot be reached, and some or none of them have been run.
        EnvelopeError: Nobody can say which deliveries these are, or what is in one of them; the
            others have been run.
        ReceiverNotFoundError: This process has no receiver of that name.
    """
    receiver = registry.get(name)
    results, unread = [], None
    for delivery in unpack(wire):
        try:
            results.append(_run(receiver, delivery, worker))
        except EnvelopeError as exc:
            unread = unread or exc
    if unread is not None:
        raise unread
    return results


def _run(receiver: Receiver, delivery: Envelope | Reference, worker: str) -> Result:
    claimed = _claim(receiver, delivery, worker)
    if claimed is None:
        return Result(delivery=delivery.id, state="skipped")
    result = _attempt(receiver, claimed)
    if claimed.order is None or result.state == "retrying":
        return result
    return dataclasses.replace(result, next_of=(claimed.order, claimed.using))


def _attempt(receiver: Receiver, claimed: Run) -> Result:
    if _has_expired(receiver, claimed):
        return _expire(claimed)
    started = time.monotonic()
    if claimed.is_stored and receiver.options.effect == "once":
        return _run_once(receiver, claimed, started)
    with kept(claimed):
        raised = _call(receiver, claimed)
    duration = time.monotonic() - started
    if raised is None:
        return _succeed(claimed, duration)
    return _fail(receiver, claimed, raised, duration)


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
            return _lost(claimed)
    except Exception as exc:  # noqa: BLE001  (of a callback it is logged, any other is recorded)
        if _is_recorded(claimed):
            _log_callback(receiver, claimed, exc)
        else:
            raised = _Raised(exc, {})
    duration = time.monotonic() - started
    if raised is None:
        return _tell_success(claimed, duration)
    return _fail(receiver, claimed, raised, duration)


def _log_callback(receiver: Receiver, claimed: Run, exc: BaseException) -> None:
    """Log what a callback of the receiver has raised, masked: it is recorded nowhere."""
    encoded = claimed.envelope.kwargs  # The receiver's arguments are gone with its call.
    mask = mask_for(receiver.options.sensitive, with_keys(encoded, encoded), exc)
    logger.error(
        "A callback failed after the commit of %s.\n%s",
        claimed.envelope.id,
        failure_of(exc, mask, receiver=receiver.name).traceback.rstrip(),
    )


def _is_recorded(claimed: Run) -> bool:
    """Whether the success of *claimed* was committed, whatever the commit has raised."""

    def look() -> bool:
        connections[claimed.using].close_if_unusable_or_obsolete()
        return claims.recorded_row(claimed).exists()

    return patiently(look, claimed.using)


def _has_expired(receiver: Receiver, claimed: Run) -> bool:
    expires = receiver.options.expires
    return expires is not None and seconds_since(claimed.since, claimed.using) > expires


def _expire(claimed: Run) -> Result:
    """Give up a delivery that came too late, and say so."""
    patiently(lambda: records.discarded(claimed, EXPIRED), claimed.using)
    logger.warning(
        "Discarded delivery %s of %s: it has expired.",
        claimed.envelope.id,
        claimed.envelope.receiver,
    )
    _announce(delivery_discarded, claimed, reason=EXPIRED)
    return Result(delivery=claimed.envelope.id, state="skipped", told=EXPIRED)


def _claim(receiver: Receiver, delivery: Envelope | Reference, worker: str) -> Run | None:
    if receiver.name in patiently(paused, alias()):
        _wait(delivery)
        return None
    if isinstance(delivery, Envelope):
        claimed = patiently(lambda: claims.claim(delivery, dump(delivery), worker=worker), alias())
        if claimed is None:
            _bury(delivery.id)
        return claimed
    try:
        return patiently(lambda: claims.claim_stored(delivery, worker=worker), delivery.using)
    except HeldError:
        due.give_back([delivery.id], delivery.using, wait=PAUSE)
        return None
    except EnvelopeError as exc:  # For a person to retry, after a deploy or with the lost key.
        failure = failure_of(exc, mask_for((), None, None), receiver=receiver.name)
        unread = patiently(lambda: records.unread(delivery, failure), delivery.using)
        if unread is not None:
            _announce(delivery_failed, unread, exception=exc, failure=failure)
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
        tell_deaths(due.take_dead_claims(alias(), limit=1, ids=[id]))


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
    held = patiently(lambda: records.succeeded(claimed, duration), claimed.using)
    return _tell_success(claimed, duration) if held else _lost(claimed)


def _tell_success(claimed: Run, duration: float) -> Result:
    _announce(delivery_succeeded, claimed, duration=duration)
    return Result(delivery=claimed.envelope.id, state="succeeded")


def _fail(receiver: Receiver, claimed: Run, raised: _Raised, duration: float) -> Result:
    exc = raised.exc
    known = with_keys(raised.kwargs, claimed.envelope.kwargs)
    mask = mask_for(receiver.options.sensitive, known, exc)
    failure = failure_of(exc, mask, receiver=receiver.name)
    wait = patiently(lambda: _wait_after(receiver, claimed, exc), claimed.using)
    if not claimed.is_stored:
        since_sent = patiently(lambda: seconds_since(claimed.since, claimed.using), claimed.using)
        claimed = dataclasses.replace(claimed, queued=max(0.0, since_sent - duration))
    held = patiently(
        lambda: records.failed(
            claimed,
            failure,
            mask,
            wait=wait,
            duration=duration,
            outcome=Outcome.RAISED if raised.kwargs is not None else Outcome.REFUSED,
        ),
        claimed.using,
    )
    if not held:
        return _lost(claimed)
    return _told(claimed, exc, failure, wait)


def _wait_after(receiver: Receiver, claimed: Run, exc: BaseException) -> float | None:
    retry = receiver.options.retry
    if isinstance(exc, MissingInstanceError) and receiver.options.missing != "retry":
        return None
    age = seconds_since(claimed.since, claimed.using) if retry.deadline is not None else 0
    return retry.wait_after(exc, attempts=claimed.attempts + 1, age=age)


def _told(claimed: Run, exc: BaseException, failure: Failure, wait: float | None) -> Result:
    told = f"{failure.exception}: {failure.message}"
    if wait is None:
        logger.error(
            "Failed delivery %s of %s after %d attempts: %s. It waits for a person: "
            "manage.py async_signals show %s",
            claimed.envelope.id,
            claimed.envelope.receiver,
            claimed.epoch,
            told,
            claimed.envelope.id,
        )
        _announce(delivery_failed, claimed, exception=exc, failure=failure)
        return Result(delivery=claimed.envelope.id, state="failed", told=told)
    logger.warning(
        "Attempt %d at delivery %s of %s failed: %s. The next one follows in %.0f s.",
        claimed.epoch,
        claimed.envelope.id,
        claimed.envelope.receiver,
        told,
        wait,
    )
    _announce(delivery_retrying, claimed, exception=exc, failure=failure, wait=wait)
    return Result(delivery=claimed.envelope.id, state="retrying", told=told, wait=wait)


def _lost(claimed: Run) -> Result:
    logger.warning(
        "Delivery %s of %s ran for longer than its lease and was taken away: its result does not "
        "count. Raise ASYNC_SIGNALS['LEASE'], now %s s.",
        claimed.envelope.id,
        claimed.envelope.receiver,
        get_settings().lease,
    )
    return Result(delivery=claimed.envelope.id, state="skipped", told="lost its lease")


def _announce(signal: Signal, claimed: Run, **named: object) -> None:
    announce(
        signal,
        claimed.envelope.as_delivery(attempt=claimed.epoch),
        using=claimed.using,
        fingerprint=claimed.fingerprint,
        **named,
    )


def tell_deaths(deaths: Iterable[due.Death]) -> None:
    """Log and announce that workers died over deliveries."""
    for death in deaths:
        delivery = death.delivery
        logger.error(
            "Attempt %d at delivery %s of %s ended with the death of its worker. %s",
            delivery.attempt,
            delivery.id,
            delivery.receiver,
            "It is quarantined and waits for a person."
            if death.is_final
            else "It is delivered again.",
        )
        named: dict[str, object] = {
            "using": death.using,
            "fingerprint": death.before,
            "exception": None,
            "failure": death.failure,
        }
        if death.is_final:
            announce(delivery_failed, delivery, **named)
        else:
            announce(delivery_retrying, delivery, wait=0.0, **named)
