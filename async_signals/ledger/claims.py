"""
Who may run a delivery: one worker at a time, and none after it has succeeded.

A delivery that travels whole is claimed by an insert, one that is in the ledger by an update
of its row. Either has a lease, by the database's clock, and whoever writes a result must hold
the claim still.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from django.db import connections, transaction
from django.db.models import F

from ..conf import get_settings
from ..models import Claim, Delivery, State
from ..processes import is_dead, new_claimant
from ..wire.envelope import Envelope, load, unbundled
from . import alias
from .clock import Now
from .receipts import insert_claim
from .standing_connection import open_standing
from .turns import key_of, take

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.db.models.expressions import CombinedExpression

    from ..wire.envelope import Reference

__all__ = [
    "Run",
    "claim",
    "claim_stored",
    "dead_claim",
    "held_claim",
    "held_row",
    "own_claim",
    "own_claim_stored",
    "receipt",
    "renew",
    "run_of",
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt that a worker has claimed."""

    envelope: Envelope
    text: str  #: The envelope as the ledger keeps it.
    using: str  #: Alias of the database that has the claim.
    worker: str
    epoch: int = 1  #: Of the claim: a result is written only while it holds.
    attempts: int = 0  #: That have raised before.
    is_stored: bool = False  #: It has a row in the ledger.
    order: str | None = None  #: Key of its turn; None: it has none.
    queued: float | None = None  #: Seconds from publish, or send, to start; None: nobody knows.
    fingerprint: str = ""  #: Of its last failure.
    retried_at: dt.datetime | None = None  #: When a person asked for it last.
    bundled: tuple[Envelope, ...] = ()  #: The deliveries of a bundle; none: it is itself one.

    @property
    def since(self) -> dt.datetime:
        """From when a deadline counts."""
        return self.retried_at or self.envelope.sent_at


def claim(envelope: Envelope, text: str, *, worker: str, claimant: str = "") -> Run | None:
    """
    Claim a delivery that travelled whole; None: it was claimed before.

    Args:
        envelope: The delivery.
        text: As the ledger keeps it.
        worker: Who runs it, for people.
        claimant: By which ``own_claim()`` knows this claim again.

    Raises:
        DatabaseError: The ledger cannot be reached: nothing is known of the delivery.
    """
    using = alias()
    connection = connections[using]
    open_standing(connection)
    is_first = insert_claim(
        envelope.id,
        receiver=envelope.receiver,
        worker=worker,
        process=claimant or new_claimant(),
        envelope=text,
        connection=connection,
    )
    if not is_first:
        return None
    return Run(envelope=envelope, text=text, using=using, worker=worker)


def own_claim(envelope: Envelope, text: str, *, worker: str, claimant: str) -> Run | None:
    """
    Return what ``claim()`` would have, if it was made and only its answer was lost.

    To learn of that may have taken as long as the lease: who is late does not have it any more.
    """
    using = alias()
    rows = held_claims(envelope.id, using).filter(process=claimant, expires_at__gt=Now())
    if not claimant or not rows.update(expires_at=lease_end()):
        return None
    return Run(envelope=envelope, text=text, using=using, worker=worker)


def claim_stored(reference: Reference, *, worker: str, claimant: str = "") -> Run | None:
    """
    Claim a delivery that is in the ledger; None: it is not to be run for this message.

    Args:
        reference: The delivery.
        worker: As for ``claim()``.
        claimant: As for ``claim()``.

    Raises:
        DatabaseError: As ``claim()``.
        EnvelopeError: Nobody can read what is stored.
        HeldError: Another one has to be done first.
    """
    if not reference.ordered:
        return _run_of(reference) if _claimed(reference, worker, claimant) else None
    with transaction.atomic(using=reference.using):
        if not _claimed(reference, worker, claimant):
            return None
        take(reference.id, reference.using)
    return _run_of(reference)


def own_claim_stored(reference: Reference, *, claimant: str) -> Run | None:
    """Return what ``claim_stored()`` would have, as ``own_claim()`` does."""
    rows = Delivery._base_manager.using(reference.using).filter(
        pk=reference.id, state=State.RUNNING, epoch=reference.epoch + 1, process=claimant
    )
    is_held = claimant and rows.filter(due_at__gt=Now()).update(due_at=lease_end())
    return _run_of(reference) if is_held else None


def _claimed(reference: Reference, worker: str, claimant: str) -> bool:
    rows = Delivery._base_manager.using(reference.using).filter(pk=reference.id)
    claimed = rows.filter(epoch=reference.epoch, state__in=(State.PENDING, State.PUBLISHED)).update(
        state=State.RUNNING,
        epoch=F("epoch") + 1,
        publishes=0,
        due_at=lease_end(),
        started_at=Now(),
        worker=worker,
        process=claimant or new_claimant(),
    )
    return bool(claimed)


def _run_of(reference: Reference) -> Run:
    row = Delivery._base_manager.using(reference.using).get(pk=reference.id)
    if row.size > 1:
        bundled = tuple(unbundled(row.envelope, row.size))
        itself = bundled[0]._replace(id=reference.id)
        return dataclasses.replace(run_of(row, itself, reference.using), bundled=bundled)
    order = key_of(reference.id, reference.using) if reference.ordered else None
    return run_of(row, load(row.envelope), reference.using, order=order)


def run_of(row: Delivery, envelope: Envelope, using: str, *, order: str | None = None) -> Run:
    """Return the attempt that has claimed *row*."""
    waited = row.started_at - row.published_at if row.published_at and row.started_at else None
    return Run(
        envelope=envelope,
        text=row.envelope,
        using=using,
        worker=row.worker,
        epoch=row.epoch,
        attempts=row.attempts,
        is_stored=True,
        order=order,
        queued=max(0.0, waited.total_seconds()) if waited is not None else None,
        fingerprint=row.fingerprint,
        retried_at=row.retried_at,
    )


def dead_claim(id: str, using: str) -> Claim | None:  # noqa: A002
    """Return the claim whose worker is known to have died in the middle; None: no such."""
    found = held_claims(id, using).first()
    return found if found is not None and is_dead(found.process) else None


def renew(run: Run) -> bool:
    """Extend the lease of *run*; False: it was taken away."""
    if run.is_stored:
        return bool(held_row(run).update(due_at=lease_end()))
    return bool(held_claim(run).update(expires_at=lease_end()))


def held_row(run: Run) -> QuerySet[Delivery]:
    """Return the query for the delivery of *run*, empty once its claim does not hold."""
    return Delivery._base_manager.using(run.using).filter(
        pk=run.envelope.id, state=State.RUNNING, epoch=run.epoch
    )


def held_claim(run: Run) -> QuerySet[Claim]:
    """Return the query for the claim of *run*, empty once it does not hold."""
    return held_claims(run.envelope.id, run.using)


def held_claims(id: str, using: str) -> QuerySet[Claim]:  # noqa: A002
    """Return the query for the claim of a delivery, empty where there is none, or a receipt."""
    return Claim._base_manager.using(using).filter(pk=id, done=False)


def receipt(queryset: QuerySet[Claim]) -> int:
    """Turn claims into receipts; return how many."""
    keep = dt.timedelta(seconds=get_settings().keep_succeeded)
    return queryset.update(done=True, envelope="", expires_at=Now() + keep)


def lease_end() -> CombinedExpression:
    """Return when a lease that begins now ends, by the database's clock."""
    return Now() + dt.timedelta(seconds=get_settings().lease)
