"""Pause and resume: the deliveries of a receiver wait, and none fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from .. import registry
from ..exceptions import OperationError, ReceiverNotFoundError
from ..ledger import alias, aliases, pausing
from ..models import Operation, Pause
from .receivers import known_name
from .record import author, begin, count, draft, finish

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pause", "resume"]


def pause(receiver: str, *, by: str, via: str = "api", reason: str = "") -> Operation:
    """
    Let the deliveries of *receiver* wait, in every process within a second.

    A delivery that is running is finished. The operation has changed 1, or 0 where the receiver
    was paused already: then it stays so, in the name of who did it first.

    Raises:
        OperationError: *by* is empty, or nobody knows the receiver, or it is a plain one, or the
            database takes its name for that of another one that is paused.
    """
    using = alias()
    who = author("pause a receiver", by=by, via=via, reason=reason)
    name = known_name(receiver, "pause", using=aliases())
    _check_robust(name)
    since = {"since": timezone.now(), "by": who.by, "reason": who.reason}

    def change() -> bool:
        if pausing.standing(name, using):
            return False
        pauses = Pause.objects.using(using)
        found, is_new = pauses.get_or_create(receiver=name, defaults=since)
        if found.receiver != name:
            raise OperationError(
                f"cannot pause {name}: expected a name that the database tells from others, got: "
                f"one that it takes for {found.receiver}, which is paused. Rename one of them with "
                "name=..., and aliases=[old name]."
            )
        return is_new

    drafted = draft(Operation.Verb.PAUSE, who, target=f"receiver={name}", total=1)
    return _written_down(drafted, using, change)


def resume(receiver: str, *, by: str, via: str = "api", reason: str = "") -> Operation:
    """
    Let the deliveries of *receiver* go on, in every process within a second.

    The operation has changed 1, or 0 where the receiver was not paused.

    Raises:
        OperationError: *by* is empty, or nobody knows the receiver.
    """
    using = alias()
    who = author("resume a receiver", by=by, via=via, reason=reason)
    name = known_name(receiver, "resume", using=aliases())

    def change() -> bool:
        names = pausing.standing(name, using)
        return Pause.objects.using(using).filter(receiver__in=names).delete()[0] > 0

    drafted = draft(Operation.Verb.RESUME, who, target=f"receiver={name}", total=1)
    return _written_down(drafted, using, change)


def _check_robust(name: str) -> None:
    try:
        is_robust = registry.get(name).options.robust
    except ReceiverNotFoundError:
        return  # It is in the ledger, so it was.
    if not is_robust:
        raise OperationError(
            f"cannot pause {name}: expected a robust receiver, whose deliveries can wait in the "
            "ledger, got: a plain one. Give it robust=True, or stop the workers of its queue."
        )


def _written_down(operation: Operation, using: str, change: Callable[[], bool]) -> Operation:
    """Change, and write it down: both or neither."""
    with transaction.atomic(using=using):
        begin(operation, using=using)
        changed = change()
        count(operation, changed=int(changed), unchanged=int(not changed))
        finish(operation)
    pausing.forget()
    return operation
