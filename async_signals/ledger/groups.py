"""
Groups of equal failures: when each was seen, and who tells people about it.

Many processes see the same failure at the same time; for each group one of them is told to
alert, and one to say that it is over. All times are the database's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, F, Q

from ..models import LIVE_STATES, Attempt, Delivery, FailureGroup, State
from .clock import Now

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from django.db.models import QuerySet

    from .failures import Failure

__all__ = [
    "alerted",
    "find",
    "give_back_alert",
    "give_back_recovery",
    "in_trouble",
    "seen",
    "take_alert",
    "take_recovery",
]

logger = logging.getLogger("async_signals")


def seen(
    delivery_id: UUID | str,
    receiver: str,
    failure: Failure,
    using: str,
    *,
    before: str = "",
    together: Collection[UUID | str] = (),
) -> None:
    """
    Note that a delivery has failed with *failure*; a failure of a new kind is logged.

    Holds the group's row until the transaction ends: call it last, and for several failures in
    one transaction in the order of their fingerprints.

    Args:
        delivery_id: The delivery, written down before.
        receiver: Name of its receiver.
        failure: Why it failed.
        using: Alias of the ledger's database.
        before: Fingerprint of the failure that it had before.
        together: All deliveries whose first failure of this kind the transaction writes down.
    """
    group = _group(failure.fingerprint, using)
    if group.update(last_at=Now()):
        # Whoever is next waits for the row, and then sees this delivery: one begins anew.
        if before != failure.fingerprint:
            _begin_anew(group, {delivery_id, *together}, failure.fingerprint, using)
        return
    FailureGroup.objects.using(using).bulk_create(
        [
            FailureGroup(
                fingerprint=failure.fingerprint,
                receiver=receiver,
                exception=failure.exception,
                message=failure.message,
                first_at=Now(),
                last_at=Now(),
            )
        ],
        ignore_conflicts=True,  # Of several that are the first, one is.
    )
    logger.warning(
        "Delivery %s of %s failed in a new way (%s): %s %s",
        delivery_id,
        receiver,
        failure.fingerprint,
        failure.exception,
        failure.message,
    )


def find(fingerprint: str, using: str) -> FailureGroup | None:
    """Return the group of *fingerprint*; None: none was seen, or it was pruned."""
    return _group(fingerprint, using).first()


def take_alert(fingerprint: str, using: str) -> bool:
    """
    Return whether to alert: True for one caller until the group has recovered.

    Where nobody has said so, because the process was killed or the deliveries were deleted, the
    group is over all the same: ``seen()`` lets it begin anew.

    Call it when the failure is committed, so that the alert is about something that exists.
    """
    group = _group(fingerprint, using).filter(alerted_at__isnull=True)
    return group.update(alerted_at=Now()) == 1


def give_back_alert(fingerprint: str, using: str) -> None:
    """Undo ``take_alert()``: nobody could be told."""
    _group(fingerprint, using).update(alerted_at=None)


def take_recovery(fingerprint: str, using: str) -> bool:
    """
    Return whether to say that it is over: True for one caller, after an alert.

    It is over when no delivery that failed so is failed or tried again any more. Call it when
    the change of the delivery is committed: of two that succeed at once the second one sees both.
    """
    told = _group(fingerprint, using).filter(alerted_at__isnull=False)
    with transaction.atomic(using=using):
        # Changes nothing, but locks the row on every database: whoever records a failure of the
        # group either is seen below, or waits and then finds that it may alert again.
        if not told.update(alerted_at=F("alerted_at")):
            return False
        if in_trouble(fingerprint, using):
            return False
        return told.update(alerted_at=None) == 1


def give_back_recovery(fingerprint: str, using: str) -> None:
    """Undo ``take_recovery()``, unless the group has begun anew: nobody could be told."""
    untold = _group(fingerprint, using).filter(alerted_at__isnull=True)
    with transaction.atomic(using=using):
        # Locks the row, as there.
        if untold.update(alerted_at=None) and not in_trouble(fingerprint, using):
            untold.update(alerted_at=Now())


def in_trouble(fingerprint: str, using: str) -> bool:
    """Whether a delivery of the group is failed, or tried again."""
    return _troubled(fingerprint, using).exists()


def alerted(delivery_id: UUID | str, fingerprint: str, using: str) -> list[FailureGroup]:
    """Return the groups that people were told of: *fingerprint*, and those of all attempts."""
    attempts = Attempt.objects.using(using).filter(delivery_id=delivery_id)
    groups = FailureGroup.objects.using(using).filter(
        Q(pk=fingerprint) | Q(pk__in=attempts.values("fingerprint")), alerted_at__isnull=False
    )
    return list(groups.order_by("pk"))


def _begin_anew(
    group: QuerySet[FailureGroup], new: Collection[UUID | str], fingerprint: str, using: str
) -> None:
    """Let the group be alerted about again where nothing but *new* is in trouble."""
    others = _troubled(fingerprint, using).exclude(pk__in=new)
    # Asked first: MariaDB would lock what the query in an update reads.
    if group.filter(~Exists(others), alerted_at__isnull=False).exists():
        group.update(alerted_at=None)


def _group(fingerprint: str, using: str) -> QuerySet[FailureGroup]:
    return FailureGroup.objects.using(using).filter(pk=fingerprint)


def _troubled(fingerprint: str, using: str) -> QuerySet[Delivery]:
    """Return the deliveries of the group that failed, or that are tried again."""
    tried_again = Q(state__in=LIVE_STATES, epoch__gt=0)
    return Delivery.objects.using(using).filter(
        Q(state=State.FAILED) | tried_again, fingerprint=fingerprint
    )
