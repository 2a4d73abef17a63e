"""
When a delivery leaves: with the transaction that it belongs to, or at once.

Each delivery registers one ``on_commit`` callback of its own, so that Django decides
whether it lives: a rolled-back savepoint drops its callbacks, ``TestCase`` captures them.
The first callback that a commit calls publishes for all that are still alive, in one
batch.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model

from .publisher import is_eager, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    from .message import Message
    from .registry import Receiver

__all__ = ["alias_of", "dispatch", "outlet"]

logger = logging.getLogger("async_signals")


def dispatch(message: Message, alias: str) -> None:
    """Publish *message* once the transaction on *alias* has committed, if there is one."""
    connection = connections[alias]
    if not message.receiver.options.on_commit or _is_in_autocommit(connection):
        outlet.get()([message])
        return
    departure = _Departure(message)

    def leave() -> None:
        departure.leave(connection)

    # With autocommit off and no atomic block, this raises: nobody can tell the commit.
    transaction.on_commit(leave, using=alias, robust=not _runs_receivers())
    _waiting.setdefault(connection, weakref.WeakValueDictionary())[next(_numbers)] = departure


def _runs_receivers() -> bool:
    """Whether receivers run where they are published, in a test, which is to see their errors."""
    return outlet.get() is not publish_and_log or is_eager()


def _is_in_autocommit(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether there is no transaction to wait for.

    ``on_commit`` would ask the database, which a coroutine may not, and which would fail an
    event that has nothing to do with the database while the database is down.
    """
    if connection.in_atomic_block:
        return False
    if connection.connection is None:
        return bool(connection.settings_dict["AUTOCOMMIT"])
    return bool(connection.autocommit)


def alias_of(receiver: Receiver, named: Mapping[str, object]) -> str:
    """
    Return the alias whose commit an event waits for.

    It is the receiver's ``using``; else the signal's own, else that of the instance that it
    carries, else the default.
    """
    if receiver.options.using is not None:
        return receiver.options.using
    using = named.get("using")
    if isinstance(using, str) and using in connections:
        return using
    for value in (named.get("instance"), *named.values()):
        if isinstance(value, Model) and value._state.db is not None:
            return value._state.db
    return DEFAULT_DB_ALIAS


def publish_and_log(messages: Sequence[Message]) -> None:
    """Publish, and say loudly what was lost: nobody else will."""
    for message, exc in publish(messages):
        for envelope in message.envelopes:
            logger.error(
                "Lost delivery %s of %s: cannot publish it, expected a broker that takes it, "
                "got: %s. Its event is committed and will not be sent again.",
                envelope.id,
                envelope.receiver,
                _told(exc),
            )


def _told(exc: BaseException) -> str:
    told = f"{type(exc).__name__}: {str(exc).rstrip('.')}"
    return f"{told}, after {_told(exc.__cause__)}" if exc.__cause__ is not None else told


#: Where messages leave this process. ``async_signals.testing`` puts its own in.
outlet: ContextVar[Callable[[Sequence[Message]], None]] = ContextVar(
    "async_signals_outlet", default=publish_and_log
)


class _Departure:
    """One message that waits for its transaction."""

    __slots__ = ("__weakref__", "message")

    def __init__(self, message: Message) -> None:
        self.message: Message | None = message  #: None once it has left.

    def leave(self, connection: BaseDatabaseWrapper) -> None:
        """Leave, on a real commit together with all whose callbacks are going to be called."""
        if self.message is None:
            return
        together = [self]
        if not connection.in_atomic_block:  # In one still: a test runs captured callbacks.
            waiting = list(_waiting.pop(connection, {}).values())
            together = waiting if self in waiting else [self]
        messages = [departure.message for departure in together if departure.message is not None]
        for departure in together:
            departure.message = None
        outlet.get()(messages)


#: The departures of each open transaction, in their order. Only Django's list of callbacks
#: keeps one alive: what a rollback drops there is gone here.
_waiting: weakref.WeakKeyDictionary[
    BaseDatabaseWrapper, weakref.WeakValueDictionary[int, _Departure]
] = weakref.WeakKeyDictionary()
_numbers = itertools.count()
