"""What becomes of a delivery whose worker died over it: one more attempt, and one day the end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from django.db import DataError, transaction
from django.db.models import F, Q

from ..conf import get_settings
from ..exceptions import EnvelopeError
from ..models import Attempt, Claim, Delivery, Outcome, State
from ..wire.envelope import load
from . import locked
from .claims import receipt
from .clock import Now
from .failures import death_of
from .groups import seen
from .payloads import mask_of
from .records import blank_envelope, delivery_of, insert_rows, new_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from .. import delivery as delivery_of_user
    from .failures import Failure

__all__ = ["Death", "record_death", "record_deaths", "seen_together", "take_dead_claims"]


@dataclasses.dataclass(frozen=True, slots=True)
class Death:
    """A delivery whose worker died over it."""

    delivery: delivery_of_user.Delivery
    failure: Failure
    is_final: bool  #: Too many have: it waits for a person.
    before: str  #: Fingerprint of the failure that it had before.
    using: str  #: Alias of the database that has it.


def take_dead_claims(using: str, *, limit: int, ids: Collection[str] = ()) -> list[Death]:
    """
    Move deliveries whose workers died into the ledger, to be published again.

    Args:
        using: Alias of the ledger's database.
        limit: At most so many.
        ids: Claims of workers that are known to have died; none: those whose lease is over.
    """
    which = Q(pk__in=list(ids)) if ids else Q(expires_at__lte=Now())
    with transaction.atomic(using=using):
        claims = list(
            locked(Claim._base_manager.using(using).filter(which, done=False), using)[:limit]
        )
        return seen_together([each for claim in claims if (each := _adopted(claim, using))], using)


def _adopted(claim: Claim, using: str) -> Death | None:
    try:
        with transaction.atomic(using=using):
            return _adopt(claim, using)
    except (DataError, ValueError) as exc:  # One of them must not stop all others.
        return _adopt(claim, using, f"cannot be recorded: {exc}")


def _adopt(claim: Claim, using: str, unreadable: str = "") -> Death | None:
    receipt(Claim._base_manager.using(using).filter(pk=claim.pk))
    if Delivery._base_manager.using(using).filter(pk=claim.pk).exists():
        return None  # It has its row, which nobody may change but by its own claim.
    try:
        envelope, reason = load(claim.envelope), unreadable
    except EnvelopeError as exc:
        reason = str(exc)
    if reason:
        envelope = blank_envelope(str(claim.pk), claim.receiver, claim.started_at)
    row = new_row(envelope, mask_of(envelope), claim.envelope, None)
    row.state, row.due_at = State.RUNNING, claim.expires_at
    row.epoch, row.worker, row.started_at = 1, claim.worker, claim.started_at
    insert_rows([row], [envelope], using)
    return record_death(row, using, reason, chain=envelope.chain)


def seen_together(deaths: list[Death], using: str) -> list[Death]:
    """Count *deaths* among the failures of their groups, and return them."""
    # In one order: each holds its group's row until the end of the transaction.
    for death in sorted(deaths, key=lambda death: death.failure.fingerprint):
        seen(
            death.delivery.id,
            death.delivery.receiver,
            death.failure,
            using,
            before=death.before,
            together=[
                each.delivery.id for each in deaths if each.before != each.failure.fingerprint
            ],
        )
    return deaths


def record_deaths(ids: Collection[Any], using: str) -> list[Death]:
    """Write that the workers of these deliveries died, which the caller has locked."""
    if not ids:
        return []
    rows = Delivery._base_manager.using(using).filter(pk__in=ids).order_by("pk")
    return [record_death(row, using) for row in rows]


def record_death(row: Any, using: str, reason: str = "", *, chain: tuple[str, ...] = ()) -> Death:
    """Write that the worker of *row* died; a person has to look after too many."""
    limit = get_settings().max_deaths
    is_final = bool(reason) or row.deaths + 1 >= limit
    failure = death_of(row.receiver)
    Delivery._base_manager.using(using).filter(pk=row.pk).update(
        state=State.FAILED if is_final else State.PENDING,
        due_at=None if is_final else Now(),
        finished_at=Now() if is_final else None,
        deaths=F("deaths") + 1,
        exception=failure.exception,
        message=failure.message,
        fingerprint=failure.fingerprint,
        reason=(reason or f"quarantined: {limit} workers died over it") if is_final else "",
    )
    Attempt._base_manager.using(using).bulk_create(
        [
            Attempt(
                delivery_id=row.pk,
                number=row.epoch,
                outcome=Outcome.DIED,
                started_at=row.started_at or Now(),
                worker=row.worker,
                message=failure.message,
                fingerprint=failure.fingerprint,
            )
        ]
    )
    delivery = delivery_of(row, attempt=row.epoch, chain=chain)
    return Death(delivery, failure, is_final, row.fingerprint, using)
