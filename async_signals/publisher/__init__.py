"""
Messages -> Celery: bounded in time, on connections of our own.

Celery's own producers may wait for a silent broker without limit, and RabbitMQ reports
success for what it never stored. Neither may happen inside somebody's request.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, cast

import celery
from celery.utils.time import rate
from django.utils.module_loading import import_string
from kombu.exceptions import KombuError

from ..conf import get_settings
from ..exceptions import PublishError
from ..outcomes import run_each
from ..wire.message import Message
from .connections import acquire
from .sharing import shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..registry import Receiver
    from ..wire.envelope import Reference
    from .connections import Connection

__all__ = [
    "HEADER",
    "LIMITED",
    "WITHOUT_DATA",
    "celery_app",
    "foreign_task",
    "is_eager",
    "is_unconfigured",
    "publish",
    "seconds_apart",
    "shared_out",
]

#: Seconds within which a broker that is well takes a message; more is counted as waiting.
HEALTHY = 0.1

#: Header of every message of ours, so that a worker knows one even where the task is unknown:
#: "plain", "robust", or "stored" where the delivery itself is in the ledger.
HEADER = "async_signals"

#: What the worker that has received a message adds to its headers where a limit holds for it, in
#: time or of a rate: only the worker knows those of its own command line.
LIMITED = "async_signals_limited"

#: The arguments are data of the site: they belong into no header, event or log.
WITHOUT_DATA: dict[str, Any] = {"argsrepr": "<envelope>", "kwargsrepr": "{}"}


def publish(messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
    """
    Hand *messages* to Celery in their order, all together.

    Within ``PUBLISH_TIMEOUT`` seconds it gives up a broker that is down, cannot be reached,
    does not answer, or keeps it waiting; what a broker takes at once does not count.

    Returns:
        The messages that were not taken, each with the reason. Where a connection broke in
        the middle, some of them may have arrived all the same.
    """
    try:
        app = celery_app()
    except ImportError as error:
        return [(message, error) for message in messages]
    if app.conf.task_always_eager:
        run_each(lambda message: _apply(app, message), messages)
        return []
    refused: list[tuple[Message, Exception]] = []
    deadline = time.monotonic() + get_settings().publish_timeout
    broken = _publish(app, messages, refused)
    if broken is None or not broken.answers:
        return refused + (broken.failed if broken is not None else [])
    # Brokers close idle connections: once more, on a new one. Where the broker hung up over
    # one message, as over a queue that it knows otherwise, each by itself.
    again = [broken.messages]
    if broken.over_a_message:
        again = [[message] for message in broken.messages]
    reason = broken.exc
    lost: list[tuple[Message, Exception]] = []
    while again and (broken is None or broken.answers) and time.monotonic() < deadline:
        broken = _publish(app, again.pop(0), refused)
        if broken is not None:
            lost, reason = lost + broken.failed, broken.exc
    # It has fallen silent meanwhile, or takes too long: not another wait for each.
    lost += [(message, reason) for batch in again for message in batch]
    return refused + lost


def shared_out(receiver: Receiver, references: Sequence[Reference]) -> list[Message]:
    """Return the messages for deliveries of *receiver* that are in the ledger, in their order."""
    try:
        return list(shares(celery_app(), receiver, references))
    except ImportError:  # To be told where it is published.
        return [Message.to(receiver, each) for each in references]


def seconds_apart(name: str) -> float:
    """
    Return how many seconds a worker leaves between two runs of the receiver; 0: no rate limit.

    As its task has it: also from Celery's settings, and its ``task_annotations``.
    """
    try:
        app = celery_app()
    except ImportError:  # To be told where it is published.
        return 0.0
    if app.conf.worker_disable_rate_limits:
        return 0.0
    limit: Any = getattr(app.tasks.get(name), "rate_limit", None)
    per_second = rate(limit)
    return 1 / per_second if per_second else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Broken:
    """A connection broke before the broker had taken all messages."""

    messages: list[Message]  #: Those that it cannot be said to have taken.
    exc: Exception
    over_a_message: bool  #: It was not the connection's fault.
    took: float  #: Seconds.

    @property
    def answers(self) -> bool:
        """Whether the broker is there, as far as can be told."""
        return self.over_a_message or self.took < get_settings().publish_timeout / 10

    @property
    def failed(self) -> list[tuple[Message, Exception]]:
        return [(message, self.exc) for message in self.messages]


def _publish(
    app: celery.Celery, messages: Sequence[Message], refused: list[tuple[Message, Exception]]
) -> _Broken | None:
    """Publish on one connection; what only the message is to blame for goes to *refused*."""
    waiting = collections.deque(messages)
    unanswered: list[Message] = []
    started = time.monotonic()
    connection: Connection | None = None
    try:
        with acquire(app) as connection:
            try:
                connection.open()
                _hand_over(app, connection, waiting, unanswered, refused)
                connection.wait_for_confirms()
            except Exception:
                connection.drop()
                raise
    except Exception as exc:  # noqa: BLE001  (the sender's request must survive any broker)
        if connection is not None and connection.confirms is not None:
            unanswered = connection.confirms.take_unanswered()
        return _Broken(
            [*unanswered, *waiting],
            exc,
            over_a_message=connection is not None and isinstance(exc, connection.channel_errors),
            took=time.monotonic() - started,
        )
    if connection.confirms is not None:
        refusal = PublishError("the broker refused the message")
        refused += [(message, refusal) for message in connection.confirms.take_refused()]
    return None


def _hand_over(
    app: celery.Celery,
    connection: Connection,
    waiting: collections.deque[Message],
    unanswered: list[Message],
    refused: list[tuple[Message, Exception]],
) -> None:
    """Hand over what waits; a message leaves *waiting* when it was."""
    producer, confirms = connection.producer, connection.confirms
    batched = connection.has_batches and len(waiting) > 1 and hasattr(producer, "batch")
    broken: tuple[type[BaseException], ...] = (KombuError, *connection.errors)
    patience = get_settings().publish_timeout / 2
    with producer.batch() if batched else contextlib.nullcontext():
        while waiting:
            started = time.monotonic()
            try:
                _apply(app, waiting[0], producer=producer, retry=False)
            except broken:
                raise
            except Exception as exc:  # noqa: BLE001  (each message has its own outcome)
                refused.append((waiting[0], exc))
            else:
                if confirms is not None:
                    confirms.published(waiting[0])
                elif batched:
                    unanswered.append(waiting[0])
            waiting.popleft()
            if (took := time.monotonic() - started) > HEALTHY:
                patience -= took
            if patience < 0:
                raise TimeoutError(
                    "the broker takes too long for each message. Raise "
                    "ASYNC_SIGNALS['PUBLISH_TIMEOUT'], or send less in one transaction"
                )


def _apply(app: celery.Celery, message: Message, **how: Any) -> None:
    """Publish one message through Celery's own door, so that routes, signals and events hold."""
    receiver = message.receiver
    task: Any = app.tasks.get(receiver.name)
    if task is None or foreign_task(app, receiver.name):
        raise PublishError(
            f"cannot publish to {receiver.name}: expected its task in the Celery app "
            f"{app.main!r}, got: {'no task' if task is None else 'another task of that name'}. "
            "Put 'async_signals' into INSTALLED_APPS, and give the receiver a name that no task "
            "has with @async_receiver(..., name=...)."
        )
    task.apply_async(
        (message.wire,),
        task_id=message.deliveries[0].id,
        headers={HEADER: _kind_of(message)},
        add_to_parent=False,
        **WITHOUT_DATA,
        **receiver.options.for_publish(at_once=message.is_reference),
        **how,
    )


def _kind_of(message: Message) -> str:
    """Return what tells a worker who has the delivery, also where it does not know the task."""
    if message.is_reference:
        return "stored"
    return "robust" if message.receiver.options.robust else "plain"


def celery_app() -> celery.Celery:
    """
    Return the Celery app that deliveries go through.

    Raises:
        ImportError: ``ASYNC_SIGNALS["CELERY_APP"]`` names what cannot be imported.
    """
    path = get_settings().celery_app
    # celery-types does not know that current_app is a proxy.
    current: Any = celery.current_app
    return cast("celery.Celery", import_string(path) if path else current._get_current_object())


def is_unconfigured(app: celery.Celery) -> bool:
    """Whether *app* is the one that Celery makes up where a process has created none."""
    return app.main == "default" and not app.set_as_current  # type: ignore[attr-defined]


def is_eager() -> bool:
    """Whether Celery runs tasks where they are sent, and their errors are raised there."""
    try:
        return bool(celery_app().conf.task_always_eager)
    except ImportError:  # To be told where it is published, and by a check.
        return False


def foreign_task(app: celery.Celery, name: str) -> bool:
    """Whether *app* has a task called *name* that is not a receiver's."""
    task = app.tasks.get(name)
    return task is not None and getattr(task, "receiver_name", None) != name
