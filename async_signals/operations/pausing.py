"""Pause and resume: the deliveries of a receiver wait, and none fails."""

from __future__ import annotations

from django.utils import timezone

from .. import registry
from ..exceptions import OperationError, ReceiverNotFoundError
from ..ledger import alias, aliases, pausing
from ..models import Operation, Pause
from .receivers import known_name
from .record import begin, check_author, finish

__all__ = ["pause", "resume"]


def pause(receiver: str, *, by: str, via: str = "api", reason: str = "") -> Operation:
    """
    Let the deliveries of *receiver* wait, in every process within a second.

    A delivery that is running is finished. The operation has changed 1, or 0 where the receiver
    was paused already: then it stays so, in the name of who did it first.

    Raises:
        OperationError: *by* is empty, or nobody knows the receiver, or it is a plain one.
    """
    using = alias()
    check_author("pause a receiver", by, reason)
    name = known_name(receiver, "pause", using=aliases())
    _check_robust(name)
    _, changed = Pause.objects.using(using).get_or_create(
        receiver=name, defaults={"since": timezone.now(), "by": by[:255], "reason": reason}
    )
    return _written_down(Operation.Verb.PAUSE, name, changed, using, by, via, reason)


def resume(receiver: str, *, by: str, via: str = "api", reason: str = "") -> Operation:
    """
    Let the deliveries of *receiver* go on, in every process within a second.

    The operation has changed 1, or 0 where the receiver was not paused.

    Raises:
        OperationError: *by* is empty, or nobody knows the receiver.
    """
    using = alias()
    check_author("resume a receiver", by, reason)
    name = known_name(receiver, "resume", using=aliases())
    deleted, _ = Pause.objects.using(using).filter(receiver=name).delete()
    return _written_down(Operation.Verb.RESUME, name, deleted > 0, using, by, via, reason)


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


def _written_down(
    verb: str,
    name: str,
    changed: bool,  # noqa: FBT001
    using: str,
    by: str,
    via: str,
    reason: str,
) -> Operation:
    pausing.forget()
    operation = begin(
        verb, using=using, target=f"receiver={name}", total=1, by=by, via=via, reason=reason
    )
    operation.changed, operation.unchanged = (1, 0) if changed else (0, 1)
    operation.save(using=operation._state.db, update_fields=["changed", "unchanged"])
    return finish(operation)
