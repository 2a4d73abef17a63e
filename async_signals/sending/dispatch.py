"""
When a delivery leaves: with the transaction that it belongs to, or at once.

What waits for its commit is a ``Departure``; what is durable is stored right before that.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import Model

from .before_commit import before_commit, may_wait
from .departures import (
    Departure,
    come_first,
    forget,
    gathered,
    last_departure,
    living,
    that_takes_more,
    wait,
)
from .outbox import insert, mind_the_gap, store
from .outlet import send

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from ..registry import Receiver
    from ..wire.message import Message
    from .coalescing import Subject

__all__ = ["alias_of", "connection_to", "dispatch"]


def dispatch(message: Message, alias: str, subject: Subject | None = None) -> None:
    """
    Publish *message* once the transaction on *alias* has committed, if there is one.

    Of those with the same *subject* the commit publishes one.
    """
    connection = connection_to(alias)
    is_durable = message.stored is not None
    if is_durable and (other := that_takes_more(connection)) is not None:
        other.take(message)  # As nearly all of a large transaction do.
        return
    if not message.receiver.options.on_commit or _is_in_autocommit(connection):
        message.seal()
        if is_durable:
            mind_the_gap(message.receiver, alias)
            store([message], alias)
        send([message])
        return
    if is_durable and not connection.in_atomic_block:
        # With autocommit off nobody can tell the commit: the relay sees it.
        store([message.seal()], alias, is_leaving=False)
        return
    is_unstored = is_durable and may_wait(connection)
    if not is_unstored:
        # Before anything is made that waits: who keeps what this raises must not keep that alive.
        message.seal()
        if is_durable:
            store([message], alias)
    before = last_departure(connection)
    departure = Departure(message, subject, connection, before)
    departure.is_unstored = is_unstored
    leave = departure.leave
    # With autocommit off and no atomic block, this raises: nobody can tell the commit.
    transaction.on_commit(leave, using=alias, robust=not departure.runs_receivers)
    if is_unstored:
        if connection.run_on_commit[-1][1] is leave:
            before_commit(connection, _store_the_living, forget)
        else:  # Somebody has put something else in its place: nobody could tell that it lives.
            departure.store()
    if not departure.runs_receivers:
        come_first(departure, leave)
    wait(departure, is_first=before is None)


def connection_to(alias: str) -> BaseDatabaseWrapper:
    """
    Return ``connections[alias]``.

    Django asks asgiref, which finds out by an exception that no coroutine is running, for each
    event. Where none is, it then looks into the storage of the thread: so does this at once.
    """
    if _get_running_loop() is None:
        storage = getattr(getattr(connections, "_connections", None), "_storage", None)
        found: BaseDatabaseWrapper | None = getattr(storage, alias, None)
        if found is not None:
            return found
    return connections[alias]


def _store_the_living(connection: BaseDatabaseWrapper) -> None:
    """Store, right before the commit, what Django is going to call the callbacks of."""
    if messages := gathered(living(connection)):
        insert(messages, connection.alias)


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

    It is the receiver's ``using``; else the signal's own, else that of the instance that it carries
    if a transaction is open there, or else to which that is written; else the default.
    """
    if receiver.options.using is not None:
        return receiver.options.using
    using = named.get("using")
    if isinstance(using, str) and using in connections.settings:
        return using
    # What is excluded is not looked at: a lazy object among it would be made for nothing.
    sent = (value for name, value in named.items() if name not in receiver.options.exclude)
    for value in (named.get("instance"), *sent):
        if isinstance(value, Model) and value._state.db is not None:
            if connections[value._state.db].in_atomic_block:
                return value._state.db
            # Where it was read may be a replica, which no commit of the sender's reaches.
            return router.db_for_write(value.__class__, instance=value)  # A lazy one is a proxy.
    return DEFAULT_DB_ALIAS
