"""Whether the broker takes messages, and workers know what to do with them."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from .. import registry
from ..publisher import celery_app
from ..publisher.connections import acquire
from .finding import ERROR, OK, UNAVAILABLE, WARNING, Finding, within

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["workers"]

#: Seconds that workers have to answer, and in which the broker has to pass it on.
ANSWER, ALL_ANSWERS = 1.0, 10.0


def workers() -> Iterator[Finding]:
    """Whether the broker answers, then workers, then whether they know every receiver."""
    try:
        app = celery_app()
    except (ImportError, ImproperlyConfigured):
        return  # Said by the settings.
    if app.conf.task_always_eager:
        yield Finding(
            about="broker",
            level=WARNING,
            text="Celery runs tasks where they are sent (task_always_eager)",
            cure="Remove it outside of tests.",
        )
        return
    reached = _broker(app)
    yield reached
    if reached.level == OK:
        yield from _workers(app)


def _broker(app: Any) -> Finding:
    # Without the password.
    url = app.connection_for_write().as_uri()
    try:
        with acquire(app) as connection:
            try:
                connection.open()
            except Exception:
                connection.drop()
                raise
    except Exception as exc:  # noqa: BLE001  (each transport has its own errors)
        return Finding(
            about="broker",
            level=UNAVAILABLE,
            text=f"the broker {url} does not answer: {exc}",
            cure="Start it, or correct the broker_url of the Celery app.",
        )
    return Finding(about="broker", level=OK, text=f"the broker {url} answers")


def _workers(app: Any) -> Iterator[Finding]:
    try:
        registered: dict[str, list[str]] = within(ALL_ANSWERS, lambda: _registered(app))
    except Exception as exc:  # noqa: BLE001  (as above)
        yield Finding(about="workers", level=UNAVAILABLE, text=f"cannot ask the workers: {exc}")
        return
    if not registered:
        yield Finding(
            about="workers",
            level=UNAVAILABLE,
            text="no worker answers",
            cure=f"celery -A {app.main or 'project'} worker",
        )
        return
    yield Finding(
        about="workers",
        level=OK,
        text=f"{len(registered)} workers answer: {', '.join(sorted(registered))}",
    )
    yield from _unknown_there(registered)


def _registered(app: Any) -> dict[str, list[str]]:
    """Return the names of the tasks that each worker knows."""
    inspect: Any = app.control.inspect(timeout=ANSWER)
    answers = inspect.registered() or {}
    # A worker may add what is special, as in "shop.receive [rate_limit=10/m]".
    return {worker: [task.partition(" ")[0] for task in tasks] for worker, tasks in answers.items()}


def _unknown_there(registered: dict[str, list[str]]) -> Iterator[Finding]:
    """Compare what workers know with the receivers of this process."""
    missing = collections.defaultdict[str, list[str]](list)
    for worker, tasks in sorted(registered.items()):
        for name in sorted(set(registry.names()) - set(tasks)):
            missing[name].append(worker)
    for name, unknowing in missing.items():
        everywhere = len(unknowing) == len(registered)
        yield Finding(
            about="registered",
            level=ERROR if everywhere else WARNING,
            text=f"{name} is unknown to {'every worker' if everywhere else ', '.join(unknowing)}",
            cure="Restart workers with this release, and import the receiver's module in "
            "AppConfig.ready().",
        )
    if not missing:
        yield Finding(about="registered", level=OK, text="the workers know every receiver")
