"""What an operation would come to, without any change."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from django.db.models import Case, IntegerField, Value, When

from ..models import Operation
from . import discarding, replaying, retrying
from .frozen_set import CHUNK, FrozenSet, candidates

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..stats import Filter

__all__ = ["Rehearsal", "rehearse"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How many deliveries an operation would look at, and how many of these it would change."""

    total: int
    changed: int
    is_cut: bool = False  #: There may be more.
    frozen: FrozenSet | None = None  #: They themselves, for the operation; None: it finds them.


def rehearse(
    verb: str,
    filter: Filter,  # noqa: A002  (Django's word)
    *,
    limit: int | None = None,
    cap: int | None = None,
    to: Collection[str] = (),
    using: str,
) -> Rehearsal:
    """
    Return what *verb* would come to now, and to which deliveries: 1 query.

    Who asks a person first hands on what was frozen: what was counted is what is changed.

    Args:
        verb: "retry", "discard" or "replay".
        filter: As for the operation.
        limit: As for the operation.
        cap: Without a limit, look at no more; None: at all.
        to: As for ``replay()``. Of equal events that it would repeat once, each counts.
        using: Alias of the database that has them.

    Raises:
        OperationError: An id is not a UUID, or this process does not know a receiver.
    """
    if verb == Operation.Verb.REPLAY:
        fits = replaying.fits(to, using)
    else:
        fits = {Operation.Verb.RETRY: retrying, Operation.Verb.DISCARD: discarding}[
            Operation.Verb(verb)
        ].FITS
    is_fit = Case(When(fits, then=Value(1)), default=Value(0), output_field=IntegerField())
    rows = candidates(verb, filter, using=using).annotate(is_fit=is_fit)
    # In the order of an index, also where all are counted: databases read all rows otherwise.
    rows = rows.order_by("sent_at", "pk")
    found = rows.values_list("pk", "is_fit")[: cap if limit is None else limit]
    packed, changed = bytearray(), 0
    for key, fit in found.iterator(chunk_size=CHUNK):
        packed += key.bytes
        changed += fit
    frozen = FrozenSet(bytes(packed), str(filter))
    total = len(frozen)
    return Rehearsal(
        total=total, changed=changed, is_cut=limit is None and total == cap, frozen=frozen
    )
