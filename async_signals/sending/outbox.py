"""
Durable deliveries: written in the sender's own transaction, published after its commit.

The rows stand on the alias whose commit counts, so they live and die with what the sender has
written there. What travels afterwards says only which rows; what does not get away is found by
the relay.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections, transaction

from .. import publisher
from ..conf import get_settings
from ..exceptions import OutboxError
from ..wire.envelope import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..ledger.failures import Failure
    from ..registry import Receiver
    from ..wire.envelope import Envelope
    from ..wire.message import Message

__all__ = ["at_once", "insert", "mind_the_gap", "publish", "store", "store_refusal"]

logger = logging.getLogger("async_signals")

#: Seconds before a relay looks for what is in the ledger and in no broker.
GRACE = 5.0

#: Receivers that were sent to outside ``atomic()`` and warned of.
_warned: set[str] = set()


def mind_the_gap(receiver: Receiver, alias: str) -> None:
    """
    Say, as the site wants it, that what an event in autocommit tells of is committed already.

    Raises:
        OutboxError: The site wants a transaction.
    """
    policy = get_settings().durable_outside_atomic
    said = (
        f"send a durable event to {receiver.name} safely: expected a transaction on the database "
        f"{alias!r}, got: autocommit, where save() has committed before its signal is sent. Send "
        "inside transaction.atomic(), or set ATOMIC_REQUESTS; or set "
        "ASYNC_SIGNALS['DURABLE_OUTSIDE_ATOMIC'] to 'allow'."
    )
    if policy == "raise":
        raise OutboxError(f"cannot {said}")
    if policy == "warn" and receiver.name not in _warned:
        _warned.add(receiver.name)
        logger.warning("Cannot %s", said)


def store(messages: Sequence[Message], alias: str, *, is_leaving: bool = True) -> None:
    """Insert the deliveries of *messages* at once, as ``insert()`` does."""
    # No savepoint: what cannot be stored lets the whole of the sender's block fail.
    with transaction.atomic(using=alias, savepoint=False):
        insert(messages, alias, is_leaving=is_leaving)


def insert(messages: Sequence[Message], alias: str, *, is_leaving: bool = True) -> None:
    """
    Insert the deliveries of *messages* in the transaction that is open on *alias*.

    Where they are leaving, each says that it is published from its commit on: nothing is written
    when it is, and it is published again when no worker has claimed it in time. One with an order
    says so when it was: another one may have to be done first.

    Args:
        messages: Each of one envelope.
        alias: Of the database that has what the events tell of.
        is_leaving: This process is going to publish them.

    Raises:
        OutboxError: There are no tables.
        DatabaseError: As any insert: the sender's transaction must not commit any more.
    """
    # Its models need the app registry, which importing this package does not.
    from ..ledger.due import REPUBLISH  # noqa: PLC0415
    from ..ledger.outgoing import Outgoing, insert_outgoing  # noqa: PLC0415

    deliveries = []
    for message in messages:
        leaves = is_leaving and _is_for_now(message)
        wait = REPUBLISH if leaves else message.receiver.options.countdown or GRACE
        [envelope] = message.envelopes
        deliveries.append(
            Outgoing(
                envelope=envelope,
                text=message.text,
                wait=wait,
                is_leaving=leaves,
                size=message.size,
            )
        )
    with _missing_tables_told(messages[0].receiver, alias):
        insert_outgoing(deliveries, alias)
        _insert_turns([message for message in messages if message.order is not None], alias)


def _insert_turns(messages: Sequence[Message], alias: str) -> None:
    from ..ledger.turns import insert_turns  # noqa: PLC0415  (as above)

    for ready in (True, False):
        keys = {
            message.deliveries[0].id: str(message.order)
            for message in messages
            if ready is not bool(message.receiver.options.countdown)
        }
        if keys:
            insert_turns(keys, alias, ready=ready)


def store_refusal(
    receiver: Receiver, envelope: Envelope, failure: Failure, alias: str, *, told: bool
) -> None:
    """
    Record in the transaction on *alias* that an event cannot be sent.

    Announced after its commit where it is to be *told*; raises as ``store()``.
    """
    from ..ledger.clock import Now  # noqa: PLC0415  (as above)
    from ..ledger.groups import seen  # noqa: PLC0415
    from ..ledger.records import insert_rows, new_row  # noqa: PLC0415
    from ..ledger.telling import tell_failed  # noqa: PLC0415
    from ..models import State  # noqa: PLC0415

    row = new_row(
        envelope,
        None,
        "",
        failure,
        state=State.FAILED,
        due_at=None,
        finished_at=Now(),
        reason=failure.message,
    )
    with (
        _missing_tables_told(receiver, alias),
        transaction.atomic(using=alias, savepoint=False),
    ):
        insert_rows([row], [envelope], alias)
        seen(envelope.id, receiver.name, failure, alias)
        if told:
            tell_failed([envelope], failure, alias)


@contextlib.contextmanager
def _missing_tables_told(receiver: Receiver, alias: str) -> Iterator[None]:
    try:
        yield
    except DatabaseError as exc:
        if not _is_of_missing_table(exc):
            raise
        raise OutboxError(
            f"cannot store a delivery of {receiver.name}: expected the tables of async_signals on "
            f"the database {alias!r}, whose commit it waits for, got: none. Run manage.py migrate "
            f"--database {alias}, with DATABASE_ROUTERS that allow it there, or name another "
            "database with @async_receiver(..., using=...)."
        ) from exc


def _is_of_missing_table(exc: DatabaseError) -> bool:
    cause: Any = exc.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == "42P01" or exc.args[:1] == (1146,) or "no such table" in str(exc)


def at_once(messages: Sequence[Message]) -> Sequence[Message]:
    """Return *messages* without those that are left to the ledger: it is not their time yet."""
    if all(message.stored is None for message in messages) or publisher.is_eager():
        return messages
    return _first_of_their_keys([message for message in messages if not _waits(message)])


def _is_for_now(message: Message) -> bool:
    """Whether a stored message is for a worker at once, after no other one and no countdown."""
    return message.order is None and not _waits(message)


def _waits(message: Message) -> bool:
    return message.stored is not None and bool(message.receiver.options.countdown)


def _first_of_their_keys(messages: list[Message]) -> list[Message]:
    """Return *messages* without those before which others have to be done."""
    from ..ledger.turns import held  # noqa: PLC0415  (as above)

    ordered: dict[str, list[str]] = {}
    for message in messages:
        if message.stored is not None and message.order is not None:
            ordered.setdefault(message.stored, []).extend(each.id for each in message.envelopes)
    wait: set[str] = set()
    for alias, ids in ordered.items():
        try:
            for some in _portions(ids, alias):
                wait.update(str(key) for key, is_held in held(some, alias).items() if is_held)
        except (DatabaseError, InterfaceError) as exc:
            wait.update(ids)
            logger.warning("Left %d durable deliveries to the relay: %s.", len(ids), exc)
    return [message for message in messages if message.deliveries[0].id not in wait]


def publish(messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
    """
    Publish as the publisher does, and what is stored by references.

    What is stored and was not taken is due again soon, and the log says so.
    """
    if all(message.stored is None for message in messages):
        return publisher.publish(messages)
    from ..ledger.due import give_back, mark_run, mark_taken  # noqa: PLC0415  (as above)

    if publisher.is_eager():  # It runs here and now, as in tests: nothing is left to do.
        refused = publisher.publish(messages)
        lost = {id(message) for message, _ in refused}
        _write_down(mark_run, [each for each in messages if id(each) not in lost])
        return refused
    travelling = _as_they_travel(messages)
    behind = {id(sent): originals for sent, originals in travelling}
    refused = [
        (message, exc)
        for sent, exc in publisher.publish([sent for sent, _ in travelling])
        for message in behind[id(sent)]
    ]
    lost = {id(message) for message, _ in refused}
    _write_down(mark_taken, [m for m in messages if m.order is not None and id(m) not in lost])
    kept = [(message, exc) for message, exc in refused if message.stored is not None]
    if kept:
        _write_down(functools.partial(give_back, wait=GRACE), [message for message, _ in kept])
        logger.warning(
            "Kept %d durable deliveries in the ledger: the broker did not take them, %s: %s. They "
            "are published when the broker is back.",
            sum(message.size for message, _ in kept),
            type(kept[0][1]).__name__,
            kept[0][1],
        )
    return refused


def _as_they_travel(messages: Sequence[Message]) -> list[tuple[Message, list[Message]]]:
    """Return what is published, each with those that it stands for, where the first of them was."""
    stored: dict[tuple[str, str, str], list[Message]] = {}
    for message in messages:
        if message.stored is not None:
            # A bundle travels alone: there is much to do for it.
            alone = message.deliveries[0].id if message.size > 1 else ""
            kind = message.receiver.name, message.stored, alone
            stored.setdefault(kind, []).append(message)
    shares: dict[int, tuple[Message, list[Message]]] = {}
    for (name, using, _), some in stored.items():
        references = [
            Reference(
                id=message.deliveries[0].id,
                receiver=name,
                epoch=0,
                using=using,
                ordered=message.order is not None,
            )
            for message in some
        ]
        waiting = iter(some)
        for share in publisher.shared_out(some[0].receiver, references):
            originals = list(itertools.islice(waiting, len(share.deliveries)))
            shares[id(originals[0])] = share, originals
    return [
        shares[id(message)] if message.stored is not None else (message, [message])
        for message in messages
        if message.stored is None or id(message) in shares
    ]


def _write_down(write: Callable[[Sequence[str], str], None], messages: Sequence[Message]) -> None:
    """Write down what has become of stored deliveries; where that fails, a relay publishes them."""
    by_alias: dict[str, list[str]] = {}
    for message in messages:
        if message.stored is not None:
            by_alias.setdefault(message.stored, []).append(message.deliveries[0].id)
    for alias, ids in by_alias.items():
        try:
            for some in _portions(ids, alias):
                write(some, alias)
        except (DatabaseError, InterfaceError) as exc:
            logger.warning(
                "Cannot write down what became of %d durable deliveries: %s. A relay publishes "
                "them again.",
                len(ids),
                exc,
            )


def _portions(ids: Sequence[str], alias: str) -> Iterator[Sequence[str]]:
    size = (connections[alias].features.max_query_params or 10_000) - 10
    return (ids[start : start + size] for start in range(0, len(ids), size))
