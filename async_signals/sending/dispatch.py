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
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model

from ..announcing import announce
from ..conf import get_settings
from ..publisher import is_eager
from ..signals import delivery_published
from .before_commit import before_commit, may_wait
from .bundling import bundle
from .coalescing import coalesced
from .outbox import at_once, insert, mind_the_gap, publish, store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

    from ..registry import Receiver
    from ..wire.message import Message
    from .coalescing import Part, Subject

__all__ = ["alias_of", "dispatch", "outlet"]

logger = logging.getLogger("async_signals")


def dispatch(message: Message, alias: str, subject: Subject | None = None) -> None:
    """
    Publish *message* once the transaction on *alias* has committed, if there is one.

    Of those with the same *subject* the commit publishes one.
    """
    connection = connections[alias]
    is_durable = message.stored is not None
    if not message.receiver.options.on_commit or _is_in_autocommit(connection):
        if is_durable:
            mind_the_gap(message.receiver, alias)
            store([message], alias)
        _send([message])
        return
    if is_durable and not connection.in_atomic_block:
        # With autocommit off nobody can tell the commit: the relay sees it.
        store([message], alias, is_leaving=False)
        return
    departure = _Departure(message, subject, connection)
    if is_durable:
        departure.is_unstored = may_wait(connection)
        if not departure.is_unstored:
            store([message], alias)
    leave = departure.leave
    # With autocommit off and no atomic block, this raises: nobody can tell the commit.
    transaction.on_commit(leave, using=alias, robust=not departure.runs_receivers)
    if departure.is_unstored:
        if connection.run_on_commit[-1][1] is leave:
            before_commit(connection, _store_the_living, _forget_the_undone)
        else:  # Somebody has put something else in its place: nobody could tell that it lives.
            departure.store()
    if not departure.runs_receivers:
        _come_first(connection)
    waiting = _waiting.get(connection)
    if waiting is None:
        waiting = _waiting[connection] = weakref.WeakValueDictionary()
    waiting[next(_numbers)] = departure


def _store_the_living(connection: BaseDatabaseWrapper) -> None:
    """Store, right before the commit, what Django is going to call the callbacks of."""
    living = [
        departure
        for _, callback, *_ in connection.run_on_commit
        if type(departure := getattr(callback, "__self__", None)) is _Departure
        and departure.is_unstored
    ]
    if living:
        bundle(living)
        parts = [part for departure in living for part in departure.parts]
        insert([message for message, _ in parts], connection.alias)
        for departure in living:
            departure.is_unstored = False


def _forget_the_undone(connection: BaseDatabaseWrapper, since: int) -> None:
    """Let what was sent after a savepoint was made, and undone with it, be forgotten."""
    connection.run_on_commit = [
        each
        for each in connection.run_on_commit
        if type(departure := getattr(each[1], "__self__", None)) is not _Departure
        or not departure.is_unstored
        # The upper bound: a site may let Django count anew.
        or not since <= departure.savepoint_state <= connection.savepoint_state
    ]


def _come_first(connection: BaseDatabaseWrapper) -> None:
    """
    Move the last callback of the transaction before those that may prevent it.

    Where one raises that is not robust, Django forgets all that come after it; the event is
    committed all the same. Inside a ``TestCase`` callbacks stay where a test looks for them.
    """
    callbacks: list[Any] = connection.run_on_commit  # The stubs know two of its three columns.
    blocks: list[Any] = connection.atomic_blocks
    if any(block._from_testcase for block in blocks):
        return
    # All before the last one of ours were looked at then, unless a rollback has moved it.
    start, last = _moved.get(connection, (0, lambda: None))
    if not _stands_at(connection, start - 1, last()):
        start = 0
    end = len(callbacks) - 1
    place = next((n for n in range(start, end) if not callbacks[n][-1]), end)
    ours = callbacks.pop()
    callbacks.insert(place, ours)
    _moved[connection] = place + 1, weakref.ref(ours[1])


def _stands_at(connection: BaseDatabaseWrapper, place: int, callback: object) -> bool:
    """Whether *callback* is to be called at that place of the transaction that is open now."""
    callbacks = connection.run_on_commit
    return 0 <= place < len(callbacks) and callbacks[place][1] is callback


def _runs_receivers(connection: BaseDatabaseWrapper) -> bool:
    """Whether receivers run where they are published, in a test, which is to see their errors."""
    # Celery takes its time to say so: what held for another one of this transaction holds.
    end, last = _moved.get(connection, (0, lambda: None))
    callback = last()
    if callback is not None and _stands_at(connection, end - 1, callback):
        return bool(callback.__self__.runs_receivers)
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
    # What is excluded is not looked at: a lazy object among it would be made for nothing.
    sent = (value for name, value in named.items() if name not in receiver.options.exclude)
    for value in (named.get("instance"), *sent):
        if isinstance(value, Model) and value._state.db is not None:
            return value._state.db
    return DEFAULT_DB_ALIAS


def publish_and_log(messages: Sequence[Message]) -> None:
    """Publish; keep what is robust and was not taken, and say loudly what else was lost."""
    messages = at_once(messages)
    late = [message for message in messages if _is_for_later(message)]
    now = [message for message in messages if message not in late] if late else messages
    refused = publish(now) if now else []
    _announce(now, refused)
    robust = [
        (message, exc)
        for message, exc in refused
        if message.receiver.options.robust and message.stored is None
    ]
    if late or robust:
        _keep(late, robust)
    lost = [(message, exc) for message, exc in refused if not message.receiver.options.robust]
    if any(message.unique is not None for message, _ in lost):
        from ..ledger.uniqueness import give_back  # noqa: PLC0415  (as in _keep)

        give_back([message for message, _ in lost if message.unique is not None])
    for message, exc in lost:
        for envelope in message.envelopes:
            logger.error(
                "Lost delivery %s of %s: cannot publish it, expected a broker that takes it, "
                "got: %s. Its event is committed and will not be sent again.",
                envelope.id,
                envelope.receiver,
                _told(exc),
            )


def _is_for_later(message: Message) -> bool:
    """Whether it waits in the ledger: brokers multiply what waits in them for long."""
    options = message.receiver.options
    is_kept_here = options.robust and message.stored is None
    return is_kept_here and (options.countdown or 0) > get_settings().relay_interval


def _keep(late: Sequence[Message], refused: Sequence[tuple[Message, Exception]]) -> None:
    """Put robust deliveries that are not in the broker into the ledger."""
    # Its models need the app registry, which importing this package does not.
    from ..ledger.keeping import keep  # noqa: PLC0415

    for message in late:
        keep(message.envelopes, wait=message.receiver.options.countdown or 0)
    for message, exc in refused:
        logger.warning(
            "Kept delivery %s of %s in the ledger: the broker did not take it, %s. It is "
            "published when the broker is back.",
            message.envelopes[0].id,
            message.receiver.name,
            _told(exc),
        )
    keep([each for message, _ in refused for each in message.envelopes])


def _announce(messages: Sequence[Message], refused: Sequence[tuple[Message, Exception]]) -> None:
    lost = {id(message) for message, _ in refused}
    for message in messages:
        if message.size > 1 or id(message) in lost:
            continue
        if delivery_published.has_listeners(message.receiver.function):
            for envelope in message.envelopes:
                announce(delivery_published, envelope.as_delivery(attempt=1))


def _told(exc: BaseException) -> str:
    told = f"{type(exc).__name__}: {str(exc).rstrip('.')}"
    return f"{told}, after {_told(exc.__cause__)}" if exc.__cause__ is not None else told


#: Where messages leave this process. ``async_signals.testing`` puts its own in.
outlet: ContextVar[Callable[[Sequence[Message]], None]] = ContextVar(
    "async_signals_outlet", default=publish_and_log
)


def _send(messages: Sequence[Message]) -> None:
    """Let *messages* out, without those that were sent already."""
    if any(message.unique is not None for message in messages):
        from ..ledger.uniqueness import unsent  # noqa: PLC0415  (as in _keep)

        messages = unsent(messages)
    if messages:
        outlet.get()(messages)


class _Departure:
    """One message that waits for its transaction."""

    __slots__ = (
        *("__weakref__", "connection", "is_unstored", "parts"),
        *("runs_receivers", "savepoint_state", "subject"),
    )

    def __init__(
        self, message: Message, subject: Subject | None, connection: BaseDatabaseWrapper
    ) -> None:
        self.subject = subject
        self.connection = connection
        self.savepoint_state = connection.savepoint_state
        self.is_unstored = False  #: It is to be stored right before the commit.
        self.runs_receivers = _runs_receivers(connection)
        #: The message, behind those that it stands for; none once it has left.
        self.parts: list[Part] = [(message, subject)]

    def store(self) -> None:
        """Store it now."""
        self.is_unstored = False
        store([self.parts[0][0]], self.connection.alias)

    def leave(self) -> None:
        """Leave, on a real commit together with all whose callbacks are going to be called."""
        connection = self.connection
        if not self.parts:
            return
        together = [self]
        if not connection.in_atomic_block:
            waiting = list(_waiting.pop(connection, {}).values())
            together = waiting if self in waiting else [self]
        elif self._passes_on(connection):  # In one still: a test runs captured callbacks.
            return
        if self.is_unstored:  # A test runs the callbacks of an open transaction.
            self.store()
        # What is not stored now was rolled back, and something has kept it, as a traceback does.
        together = [departure for departure in together if not departure.is_unstored]
        parts = [part for departure in together for part in departure.parts]
        for departure in together:
            departure.parts = []
        _send(coalesced(parts))

    def _passes_on(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether a later one, whose callback the test runs next, leaves in its place, too."""
        if self.subject is None:
            return False
        waiting = list(_waiting.get(connection, {}).values())
        for later in waiting[waiting.index(self) + 1 :] if self in waiting else ():
            if later.parts and later.subject and later.subject.key == self.subject.key:
                later.parts, self.parts = self.parts + later.parts, []
                return True
        return False


#: The departures of each open transaction, in their order. Only Django's list of callbacks
#: keeps one alive: what a rollback drops there is gone here.
_waiting: weakref.WeakKeyDictionary[
    BaseDatabaseWrapper, weakref.WeakValueDictionary[int, _Departure]
] = weakref.WeakKeyDictionary()
#: How many callbacks are known not to prevent the last one of ours, with itself, and that one:
#: weakly, as what a rollback drops must be gone.
_moved: weakref.WeakKeyDictionary[BaseDatabaseWrapper, tuple[int, Callable[[], Any]]] = (
    weakref.WeakKeyDictionary()
)
_numbers = itertools.count()
