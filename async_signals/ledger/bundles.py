"""Bundles: rows that stand for many deliveries, until a worker puts these in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from ..models import Delivery
from ..wire.envelope import Reference, dump
from .claims import held_row, renew
from .due import REPUBLISH, Due
from .outgoing import Outgoing, insert_outgoing

if TYPE_CHECKING:
    from .claims import Run

__all__ = ["unpacked"]

#: Rows that one statement names by their keys: some databases take no thousand parameters.
AT_ONCE = 500


def unpacked(run: Run) -> list[Due] | None:
    """
    Put the deliveries of a bundle in its place, as published; None: its claim was taken away.

    Returns:
        What is to be published now; a relay does it in a while, should this process die.
    """
    try:
        is_held = _replaced(run)
    except IntegrityError:  # An event that another receiver had brought was pruned meanwhile.
        is_held = _replaced(run)
    if not is_held:
        return None
    return [
        Due(Reference(id=envelope.id, receiver=envelope.receiver, epoch=0, using=run.using))
        for envelope in run.bundled
    ]


def _replaced(run: Run) -> bool:
    outgoing = [
        Outgoing(envelope=envelope, text=dump(envelope), wait=REPUBLISH, is_leaving=True)
        for envelope in run.bundled
    ]
    with transaction.atomic(using=run.using):
        if not renew(run):  # It locks the row: nobody can take the claim away any more.
            return False
        held_row(run).delete()
        insert_outgoing(outgoing, run.using)
        if run.retried_at is not None:  # What a person asked for: deadlines count from then.
            for start in range(0, len(outgoing), AT_ONCE):
                ids = [each.envelope.id for each in outgoing[start : start + AT_ONCE]]
                rows = Delivery._base_manager.using(run.using).filter(pk__in=ids)
                rows.update(retried_at=run.retried_at)
    return True
