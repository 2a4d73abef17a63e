"""
What a worker made of a delivery, told to the log, to whoever listens, and to its task.

By then it is written down: nothing that is told can change it.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Literal

from .announcing import announce, is_heard
from .conf import get_settings
from .ledger.failures import failure_of
from .ledger.keys import with_keys
from .ledger.masking import mask_for
from .signals import delivery_discarded, delivery_failed, delivery_retrying, delivery_succeeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.dispatch import Signal

    from .ledger.claims import Run
    from .ledger.deaths import Death
    from .ledger.due import Due
    from .ledger.failures import Failure
    from .registry import Receiver

__all__ = [
    "EXPIRED",
    "Result",
    "tell",
    "tell_callback",
    "tell_deaths",
    "tell_expiry",
    "tell_failure",
    "tell_lost",
    "tell_success",
]

logger = logging.getLogger("async_signals")

#: The reason of what was discarded because it came too late.
EXPIRED = "expired before a worker had it"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a worker made of one delivery."""

    delivery: str  #: Its id.
    #: Skipped: it was not to be run; unpacked: others go on in its place.
    state: Literal["succeeded", "retrying", "failed", "skipped", "unpacked"]
    told: str = ""  #: Masked: what was raised, and what follows.
    wait: float = 0  #: Retrying: seconds, at least.
    #: Key and database of those of which the next one may run now; None: there are none.
    next_of: tuple[str, str] | None = None
    #: What was in a bundle, or in a message, and is to be published; and its database.
    unpacked: tuple[list[Due], str] | None = None


def tell_success(claimed: Run, duration: float) -> Result:
    """Tell that a receiver has returned."""
    tell(delivery_succeeded, claimed, duration=duration)
    return Result(delivery=claimed.envelope.id, state="succeeded")


def tell_failure(claimed: Run, exc: BaseException, failure: Failure, wait: float | None) -> Result:
    """Tell that an attempt has failed; *wait*: seconds to the next one, None: there is none."""
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
        tell(delivery_failed, claimed, exception=exc, failure=failure)
        return Result(delivery=claimed.envelope.id, state="failed", told=told)
    logger.warning(
        "Attempt %d at delivery %s of %s failed: %s. The next one follows in %.0f s.",
        claimed.epoch,
        claimed.envelope.id,
        claimed.envelope.receiver,
        told,
        wait,
    )
    tell(delivery_retrying, claimed, exception=exc, failure=failure, wait=wait)
    return Result(delivery=claimed.envelope.id, state="retrying", told=told, wait=wait)


def tell_lost(claimed: Run) -> Result:
    """Tell that another worker has the delivery by now."""
    logger.warning(
        "Delivery %s of %s ran for longer than its lease and was taken away: its result does not "
        "count. Raise ASYNC_SIGNALS['LEASE'], now %s s.",
        claimed.envelope.id,
        claimed.envelope.receiver,
        get_settings().lease,
    )
    return Result(delivery=claimed.envelope.id, state="skipped", told="lost its lease")


def tell_expiry(claimed: Run) -> Result:
    """Tell that a delivery was given up, since it came too late."""
    logger.warning(
        "Discarded delivery %s of %s: it has expired.",
        claimed.envelope.id,
        claimed.envelope.receiver,
    )
    tell(delivery_discarded, claimed, reason=EXPIRED)
    return Result(delivery=claimed.envelope.id, state="skipped", told=EXPIRED)


def tell_callback(receiver: Receiver, claimed: Run, exc: BaseException) -> None:
    """Tell what a callback of the receiver has raised, masked: it is recorded nowhere."""
    encoded = claimed.envelope.kwargs  # The receiver's arguments are gone with its call.
    mask = mask_for(receiver.options.sensitive, with_keys(encoded, encoded), exc)
    logger.error(
        "A callback failed after the commit of %s.\n%s",
        claimed.envelope.id,
        failure_of(exc, mask, receiver=receiver.name).traceback.rstrip(),
    )


def tell(signal: Signal, claimed: Run, **named: object) -> None:
    """Send a lifecycle signal about *claimed*."""
    if is_heard(signal, claimed.envelope.receiver):
        announce(
            signal,
            claimed.envelope.as_delivery(attempt=claimed.epoch),
            using=claimed.using,
            fingerprint=claimed.fingerprint,
            **named,
        )


def tell_deaths(deaths: Iterable[Death]) -> None:
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
