"""Bundles: rows that stand for many deliveries, until a worker puts these in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from ..wire.envelope import BETWEEN, Reference
from .claims import held_row
from .due import REPUBLISH, Due
from .outgoing import Outgoing, insert_outgoing

if TYPE_CHECKING:
    from .claims import Run

__all__ = ["unpacked"]


def unpacked(run: Run) -> list[Due] | None:
    """
    Put the deliveries of a bundle in its place, as published; None: its claim was taken away.

    Returns:
        What is to be published now; a relay does it in a while, should this process die.
    """
    texts = run.text.split(BETWEEN)
    with transaction.atomic(using=run.using):
        if not held_row(run).delete()[0]:
            return None
        insert_outgoing(
            [
                Outgoing(envelope=envelope, text=text, wait=REPUBLISH, is_leaving=True)
                for envelope, text in zip(run.bundled, texts, strict=True)
            ],
            run.using,
        )
    return [
        Due(
            envelope.as_delivery(attempt=1),
            Reference(id=envelope.id, receiver=envelope.receiver, epoch=0, using=run.using),
        )
        for envelope in run.bundled
    ]
