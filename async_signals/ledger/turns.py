"""
Whose turn it is: deliveries with ``order_by`` run one after the other, for each key.

A delivery has a row until it is done. The first of a key may run; the unique column ``running``
lets the database refuse a second one, also where an earlier one has come to light later, because
its transaction took longer. What ends a turn makes the next one due in the same transaction, so
that nobody has to be alive afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connections
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, Subquery, UUIDField
from django.db.models.functions import Coalesce

from .. import registry
from ..exceptions import ReceiverNotFoundError
from ..models import Delivery, State, Turn
from .clock import Now

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable, Mapping

    from django.db.models import QuerySet

__all__ = [
    "HeldError",
    "end",
    "held",
    "insert_turns",
    "leave",
    "let_pass",
    "next_of",
    "passes",
    "put_aside",
    "take",
    "with_holder",
    "with_number_held",
]


class HeldError(Exception):
    """It is not the turn of a delivery; never leaves ``ledger`` and ``robust``."""


def insert_turns(keys: Mapping[str, str], using: str, *, ready: bool) -> None:
    """
    Let deliveries stand behind all that are there already.

    Args:
        keys: By the ids of deliveries that are inserted, in the order in which they were sent.
        using: Alias of their database.
        ready: They wait for nothing else.
    """
    Turn._base_manager.using(using).bulk_create(
        Turn(key=key, delivery_id=id, ready=ready)
        for id, key in keys.items()  # noqa: A001
    )


def held(ids: Collection[Any], using: str) -> dict[uuid.UUID, bool]:
    """Return for each that has a turn whether another one has to be done first: 2 queries."""
    turns = Turn._base_manager.using(using)
    if not turns.exists():  # As on most sites; to name all ids costs more.
        return {}
    rows = turns.filter(delivery__in=ids)
    before = _others(using).filter(Q(pk__lt=OuterRef("pk")) | Q(running__isnull=False))
    return dict(rows.annotate(is_held=Exists(before)).values_list("delivery_id", "is_held"))


def _others(using: str) -> QuerySet[Turn]:
    """Return the other turns of the same key, for a query of turns around it."""
    others = Turn._base_manager.using(using).filter(key=OuterRef("key"))
    return others.exclude(pk=OuterRef("pk"))


def take(id: str, using: str) -> None:  # noqa: A002
    """
    Let a delivery that is being claimed have its turn; inside of the claim's transaction.

    Raises:
        HeldError: It is not its turn.
    """
    rows = Turn._base_manager.using(using)
    turn = rows.filter(delivery_id=id).first()
    if turn is None:
        return  # A person has let it run without its order.
    if rows.filter(key=turn.key, pk__lt=turn.pk).exists():
        raise HeldError(id)
    try:
        rows.filter(pk=turn.pk).update(running=F("key"))
    except IntegrityError:
        raise HeldError(id) from None


def leave(id: Any, using: str, *, is_over: bool, ready: bool = True) -> None:  # noqa: A002
    """
    Let the turn of a delivery end, or go on waiting; in the transaction that writes its state.

    Args:
        id: The delivery's.
        using: Alias of its database.
        is_over: Those behind it may run.
        ready: Not over: it waits for no next attempt.
    """
    if is_over:
        end([id], using)
    else:
        turn = Turn._base_manager.using(using).filter(delivery_id=id)
        turn.update(running=None, ready=ready)


def end(ids: Iterable[Any], using: str) -> None:
    """End the turns of deliveries, as far as they have any, and make what follows due."""
    turns = Turn._base_manager.using(using).filter(delivery__in=list(ids))
    keys = sorted(set(turns.values_list("key", flat=True)))
    if not keys:
        return
    turns.delete()
    for key in keys:
        following = next_of(key, using)
        if following is not None:
            rows = Delivery._base_manager.using(using).filter(pk=following, state=State.PENDING)
            if connections[using].features.has_select_for_update_skip_locked:
                # Who has it locked is about to publish it, or looks again within a minute.
                rows = rows.filter(pk__in=list(_free(rows)))
            rows.update(due_at=Now())


def _free(rows: QuerySet[Delivery]) -> QuerySet[Any]:
    return rows.select_for_update(skip_locked=True).values_list("pk", flat=True)


def next_of(key: str, using: str) -> uuid.UUID | None:
    """Return the delivery that is the first of *key*; None: none, or it waits for more."""
    turn = Turn._base_manager.using(using).filter(key=key).order_by("pk").first()
    return turn.delivery_id if turn is not None and turn.ready else None


def key_of(id: str, using: str) -> str | None:  # noqa: A002
    """Return the key of a delivery that has a turn."""
    turn = Turn._base_manager.using(using).filter(delivery_id=id)
    return turn.values_list("key", flat=True).first()


def put_aside(ids: Collection[Any], using: str) -> None:
    """Note that deliveries wait for nothing but their turn."""
    Turn._base_manager.using(using).filter(delivery__in=ids, ready=False).update(ready=True)


def let_pass(ids: Collection[Any], using: str) -> None:
    """End the turns of what has failed before *ids*, since their receivers let them pass now."""
    if ids:
        turns = Turn._base_manager.using(using)
        keys = turns.filter(delivery__in=ids).values("key")
        failed = turns.filter(key__in=keys, delivery__state=State.FAILED)
        end(list(failed.values_list("delivery", flat=True)), using)


def passes(receiver: str) -> bool:
    """Whether those behind a delivery of *receiver* that has failed for good may run."""
    try:
        return registry.get(receiver).options.after_failure == "pass"
    except ReceiverNotFoundError:
        return False


def with_holder(rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Return deliveries with ``held_by``: the first of their key, where that is another one."""
    before = _of_their_keys(rows, pk__lt=_own(rows, "pk")).order_by("pk")
    holder = Subquery(before.values("delivery_id")[:1], UUIDField())
    return rows.annotate(held_by=holder)  # type: ignore[no-redef]  # The model has its default.


def with_number_held(rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Return deliveries with ``holds``: how many of their key stand behind them."""
    behind = _of_their_keys(rows, pk__gt=_own(rows, "pk")).order_by().values("key")
    number = Subquery(behind.annotate(number=Count("*")).values("number"), IntegerField())
    return rows.annotate(holds=Coalesce(number, 0))  # type: ignore[no-redef]  # As above.


def _of_their_keys(rows: QuerySet[Delivery], **where: Subquery) -> QuerySet[Turn]:
    """Return the turns that have the key of a delivery, for a query of deliveries around it."""
    return Turn._base_manager.using(rows.db).filter(key=_own(rows, "key"), **where)


def _own(rows: QuerySet[Delivery], column: str) -> Subquery:
    # Not a join, which stays where Django counts without the annotation.
    own = Turn._base_manager.using(rows.db).filter(delivery=OuterRef(OuterRef("pk")))
    return Subquery(own.values(column)[:1])
