"""
Several deliveries in one message, where there are many: a message costs more than a delivery.

Only of those that are in the ledger. Each is claimed, run and recorded by itself, and what waits
for too long behind another one is published again, so a message of several changes when they run
and nothing else.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..wire.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import celery

    from ..registry import Receiver
    from ..wire.envelope import Reference

__all__ = ["shares"]

#: Messages that many deliveries make at least, so that as many processes have something to do.
SPREAD = 50
#: Deliveries in one message, at most: as long as that may one process keep to itself.
MOST = 20


def shares(
    app: celery.Celery, receiver: Receiver, references: Sequence[Reference]
) -> Iterator[Message]:
    """Yield the messages for deliveries of *receiver*, in their order."""
    size = max(1, min(MOST, (len(references) - 1) // SPREAD))
    if size > 1 and _counts_messages(app, receiver):
        size = 1
    waiting = iter(references)
    while some := tuple(itertools.islice(waiting, size)):
        yield Message.to(receiver, *some)


def _counts_messages(app: celery.Celery, receiver: Receiver) -> bool:
    """Whether something that is meant for one delivery would hold for a message of several."""
    options, conf, task = receiver.options, app.conf, app.tasks.get(receiver.name)
    limits: tuple[Any, ...] = (
        options.order_by,  # What follows is published when its message is done.
        options.rate_limit,
        options.time_limit,
        options.soft_time_limit,
        conf.task_default_rate_limit,
        conf.task_time_limit,
        conf.task_soft_time_limit,
        *(getattr(task, name, None) for name in ("rate_limit", "time_limit", "soft_time_limit")),
    )
    return any(limit is not None for limit in limits)
