"""
Events that are sent once in a while: who comes first has the key, until its time is over.

By the database's clock, so that all senders agree; and an event is never lost for it: where
the database cannot say, the event is sent.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError, OperationalError, connections, transaction

from ..models import UniqueEvent
from . import alias
from .clock import Now
from .coroutines import off_the_loop
from .masking import mask_for
from .messages import is_of_database, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..wire.message import Message

__all__ = ["give_back", "unsent"]

T = TypeVar("T")

logger = logging.getLogger("async_signals")

#: Times that a step is tried where the database let another transaction win.
ATTEMPTS = 5

#: Messages whose keys are taken at once.
CHUNK = 500


def unsent(messages: Sequence[Message]) -> list[Message]:
    """Return *messages* without those whose key was taken less than ``unique_for`` seconds ago."""
    using = alias()
    return off_the_loop(lambda: _unsent(messages, using), using)


def give_back(messages: Sequence[Message]) -> None:
    """Let the keys of messages that were lost be taken again."""
    using = alias()
    keys = [message.unique for message in messages]
    rows = UniqueEvent._base_manager.using(using).filter(pk__in=keys)
    try:
        # The row stays: its deletion would be an event of the site.
        off_the_loop(lambda: rows.update(expires_at=Now()), using)
    except Exception as exc:  # noqa: BLE001  (the broker's failure is what is to be told)
        logger.warning("Cannot give back the keys of unique events: %s", type(exc).__name__)


def _unsent(messages: Sequence[Message], using: str) -> list[Message]:
    kept: list[Message] = []
    for start in range(0, len(messages), CHUNK):
        chunk = messages[start : start + CHUNK]
        try:
            kept += _unsent_of(chunk, using)
        except SynchronousOnlyOperation:
            raise
        except Exception as exc:  # noqa: BLE001  (never lost, whatever it is)
            names = {message.receiver.name for message in chunk if message.unique is not None}
            logger.warning(
                "Cannot tell whether events of %s were sent before: %s: %s. They are sent.",
                ", ".join(sorted(names)),
                type(exc).__name__,
                message_of(exc, mask_for((), None, exc), of_database=is_of_database(exc)),
            )
            if not connections[using].in_atomic_block:
                connections[using].close_if_unusable_or_obsolete()
            return [*kept, *messages[start:]]  # Nor wait for it once more.
    return kept


def _unsent_of(messages: Sequence[Message], using: str) -> list[Message]:
    wanted = {
        message.unique: message.receiver.options.unique_for or 0
        for message in messages
        if message.unique is not None
    }
    if connections[using].in_atomic_block:
        # Somebody else's transaction, as in a test: whatever fails here must not end it.
        with transaction.atomic(using=using):
            free = _take(wanted, using)
    else:
        free = _take(wanted, using)
    kept = []
    for message in messages:
        if message.unique is None or message.unique in free:
            kept.append(message)
        free.discard(message.unique or "")  # The first one of a key has it.
    return kept


def _take(wanted: Mapping[str, float], using: str) -> set[str]:
    """Take keys, each for so many seconds; return those that were free."""
    rows = UniqueEvent._base_manager.using(using)
    held = set(rows.filter(pk__in=wanted, expires_at__gt=Now()).values_list("pk", flat=True))
    # In one order everywhere, so that two that take the same ones do not wait for each other.
    free = {key: wanted[key] for key in sorted(wanted) if key not in held}
    if len(free) > 1 and _patiently(lambda: _insert(free, using), using):
        return set(free)
    return {key for key, seconds in free.items() if _take_one(key, seconds, using)}


def _take_one(key: str, seconds: float, using: str) -> bool:
    if _patiently(lambda: _insert({key: seconds}, using), using):
        return True
    # Its time may be over. Of many that find it so, the database lets one be the first.
    rows = UniqueEvent._base_manager.using(using).filter(pk=key, expires_at__lte=Now())
    until = Now() + dt.timedelta(seconds=seconds)
    return bool(_patiently(lambda: rows.update(expires_at=until), using))


def _insert(keys: Mapping[str, float], using: str) -> bool:
    """Insert all *keys*; False: one of them is there already, and none was inserted."""
    rows = [
        UniqueEvent(key=key, expires_at=Now() + dt.timedelta(seconds=seconds))
        for key, seconds in keys.items()
    ]
    try:
        with transaction.atomic(using=using):
            UniqueEvent._base_manager.using(using).bulk_create(rows)
    except IntegrityError:
        return False
    return True


def _patiently(step: Callable[[], T], using: str) -> T:
    """Do one step, once more where the database let another transaction win."""
    connection = connections[using]
    for _ in range(ATTEMPTS - 1):
        try:
            return step()
        except OperationalError:
            if connection.in_atomic_block or connection.connection is None:
                raise
            if not connection.is_usable():
                raise
    return step()
