"""Replay: a recorded event is delivered again, to the same receiver or to others."""

from __future__ import annotations

import functools
import operator
import uuid
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q

from ..exceptions import EnvelopeError
from ..ids import new_id
from ..ledger import alias
from ..ledger.clock import Now
from ..ledger.payloads import mask_of, payload_of
from ..models import LIVE_STATES, Delivery, Operation, State
from ..wire.envelope import bundled, dump, unbundled
from .frozen_set import freeze
from .receivers import receiver_called
from .record import Item, author, begin, draft, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ..registry import Receiver
    from ..stats import Filter
    from ..wire.envelope import Envelope
    from .frozen_set import FrozenSet
    from .record import Progress

__all__ = ["fits", "replay"]


def replay(
    filter: Filter | FrozenSet,  # noqa: A002  (Django's word)
    *,
    to: Collection[str] = (),
    by: str,
    via: str = "api",
    reason: str = "",
    limit: int | None = None,
    using: str | None = None,
    progress: Progress | None = None,
) -> Operation:
    """
    Make a new delivery of the same event for each that matches, due now; also of successes.

    Each call makes new ones, one for each event and receiver. An event that is still on its way to
    a receiver is not repeated to it.

    Args:
        filter: Without a state it means those of every state. Or what was frozen by
            ``rehearse()``: exactly that.
        to: Names of the receivers that get it, instead of the one that it was for; also of those
            added after the event. They get the payload as it was sent: no upcaster of theirs runs.
        by: Who asks for it.
        via: Through what: "admin", "command" or "api".
        reason: Why; for the audit.
        limit: Take at most so many, the oldest first.
        using: Alias of the database that has them; None: that of the routers.
        progress: Called after each batch with the number done, and of all.

    Raises:
        OperationError: *by* is empty, an id is not a UUID, or this process does not know a
            receiver.
    """
    verb, using = Operation.Verb.REPLAY, using or alias()
    who = author("replay deliveries", by=by, via=via, reason=reason)
    targets = _targets(to)
    frozen = freeze(verb, filter, using=using, limit=limit)
    words = f"{frozen} to={','.join(each.name for each in targets)}" if targets else str(frozen)
    total = len(frozen) * max(1, len(targets))
    operation = begin(draft(verb, who, target=words, total=total), using=using)
    return run(operation, frozen, functools.partial(_replay, using, targets, {}), progress)


def fits(to: Collection[str], using: str) -> Q:
    """Return which deliveries it makes new ones of; to at least one of these receivers."""
    live = Delivery.objects.using(using).filter(event=OuterRef("event"), state__in=LIVE_STATES)
    there = [Exists(live.filter(receiver__in=each.names)) for each in _targets(to)] or [
        Exists(live.filter(receiver=OuterRef("receiver")))
    ]
    return ~Q(envelope="") & functools.reduce(operator.or_, [~Q(each) for each in there])


def _targets(to: Collection[str]) -> list[Receiver]:
    names = [to] if isinstance(to, str) else to
    return list(dict.fromkeys(receiver_called(name, "replay to") for name in names))


#: Deliveries that are on their way, by their event and the name of their receiver.
_OnTheirWay = dict[tuple[uuid.UUID, str], uuid.UUID]


def _replay(
    using: str, targets: list[Receiver], made: _OnTheirWay, ids: list[uuid.UUID]
) -> list[Item]:
    # Locked, so that none is pruned before what repeats it refers to it.
    found = Delivery.objects.using(using).filter(pk__in=ids).order_by("pk").select_for_update()
    rows = {row.pk: row for row in found}
    # Those made before, too: they may have been delivered since.
    live = _on_their_way(rows.values(), using) | made
    items, repeats = [], []
    receivers: list[Receiver | None] = [*targets] or [None]
    for key in ids:
        for target in receivers:
            item, repeat = _repeat(rows.get(key), key, target, live)
            items.append(item)
            if repeat is not None:
                repeats.append(repeat)
                live[repeat.event_id, repeat.receiver] = repeat.pk
                made[repeat.event_id, repeat.receiver] = repeat.pk
    Delivery.objects.using(using).bulk_create(repeats)
    return items


def _on_their_way(rows: Iterable[Delivery], using: str) -> _OnTheirWay:
    live = Delivery.objects.using(using).filter(
        event__in={row.event_id for row in rows}, state__in=LIVE_STATES
    )
    return {
        (event, receiver): key
        for key, event, receiver in live.values_list("pk", "event_id", "receiver")
    }


def _repeat(
    row: Delivery | None, key: uuid.UUID, target: Receiver | None, live: _OnTheirWay
) -> tuple[Item, Delivery | None]:
    """Return what becomes of a delivery, and the new one, where there is one."""
    why = ""
    if row is None:
        return Item(key, False, "left: there is no such delivery"), None  # noqa: FBT003
    names = (row.receiver,) if target is None else target.names
    is_own = row.receiver in names
    there = [live[row.event_id, name] for name in names if (row.event_id, name) in live]
    if key in there:
        why = "left: it is still on its way; retry attempts it now"
    elif there:
        why = f"left: its event is on its way to {names[0]} already, as {there[0]}"
    elif not row.envelope:
        why = "left: its envelope was not kept"
    else:
        try:
            envelopes = unbundled(row.envelope, row.size)
        except EnvelopeError as exc:
            why = f"left: {exc}"
    if why:
        return Item(key, False, why), None  # noqa: FBT003
    if target is not None:
        envelopes = [_addressed(each, target, is_own=is_own) for each in envelopes]
    repeat = _new_delivery(row, envelopes, is_own=is_own)
    done = Item(key, True, f"delivered again as {repeat.pk} to {repeat.receiver}")  # noqa: FBT003
    return done.of(row.size), repeat


def _addressed(envelope: Envelope, target: Receiver, *, is_own: bool) -> Envelope:
    """Return the envelope for *target*; another receiver's upcasters know nothing of it."""
    version = envelope.payload_version if is_own else target.options.payload_version
    return envelope._replace(receiver=target.name, payload_version=version)


def _new_delivery(row: Delivery, envelopes: list[Envelope], *, is_own: bool) -> Delivery:
    envelopes = [each._replace(id=new_id(), replay=True) for each in envelopes]
    envelope = envelopes[0]
    payload = row.payload
    # What this receiver calls sensitive was not masked for the first one. A bundle shows nothing.
    if row.size == 1 and not is_own:
        mask = mask_of(envelope)
        payload = payload_of(envelope, mask) if mask is not None else ""
    return Delivery(
        id=uuid.UUID(envelope.id if row.size == 1 else new_id()),
        event_id=row.event_id,
        receiver=envelope.receiver,
        signal=row.signal,
        sent_at=row.sent_at,
        state=State.PENDING,
        size=row.size,
        due_at=Now(),
        retried_at=Now(),
        envelope=bundled(map(dump, envelopes)),
        payload=payload,
        replay_of_id=row.pk,
    )
