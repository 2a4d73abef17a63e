"""
Django's own signals: what of each cannot leave the process, and which cannot be asynchronous.

One row for each, and for those of this package that carry what cannot leave either;
``docs/signals.md`` says the same in words. Signals stand here by their import paths, because some
of them live in modules that a site need not load.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.dispatch import Signal

__all__ = ["RULES", "Rule", "rule_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is special about the deliveries of a signal; nothing, unless said."""

    left_out: frozenset[str] = frozenset()  #: Arguments that are never sent.
    deletes: bool = False  #: The rows that it carries are gone when the worker looks.
    announces: bool = False  #: Sent for every instance made, also for one that a worker rebuilds.
    runs: bool = False  #: Sent because deliveries run: one that is sent meanwhile causes none.
    models: bool = (
        False  #: Sent by models; those of no installed app, as in migrations, cause none.
    )
    #: Modules that define the senders: imported at connect, as a worker would have none of them.
    senders: tuple[str, ...] = ()
    refused: str = ""  #: Why it cannot be asynchronous, and the cure; empty: it can.


_HANDLERS = (
    "django.core.handlers.wsgi",
    "django.core.handlers.asgi",
    "django.contrib.staticfiles.handlers",
)
_BACKENDS = ("django.tasks.backends.immediate", "django.tasks.backends.dummy")
_MIGRATION = frozenset({"stdout", "apps", "plan"})
_REQUEST = frozenset({"request"})
_EXCEPTION = frozenset({"exception"})

RULES: dict[str, Rule] = {
    "django.db.models.signals.class_prepared": Rule(
        refused="is sent while the models are being loaded, before any process can name the class"
    ),
    "django.db.models.signals.pre_init": Rule(announces=True, models=True),
    "django.db.models.signals.post_init": Rule(announces=True, models=True),
    "django.db.models.signals.pre_save": Rule(models=True),
    "django.db.models.signals.post_save": Rule(models=True),
    "django.db.models.signals.pre_delete": Rule(deletes=True, models=True),
    "django.db.models.signals.post_delete": Rule(deletes=True, models=True),
    "django.db.models.signals.m2m_changed": Rule(models=True),
    "django.db.models.signals.pre_migrate": Rule(left_out=_MIGRATION),
    "django.db.models.signals.post_migrate": Rule(left_out=_MIGRATION),
    "django.db.backends.signals.connection_created": Rule(
        left_out=frozenset({"connection"}), runs=True
    ),
    "django.core.signals.request_started": Rule(
        left_out=frozenset({"environ", "scope"}), senders=_HANDLERS
    ),
    "django.core.signals.request_finished": Rule(senders=_HANDLERS),
    "django.core.signals.got_request_exception": Rule(left_out=_REQUEST),
    "django.core.signals.setting_changed": Rule(),
    "django.contrib.auth.signals.user_logged_in": Rule(left_out=_REQUEST),
    "django.contrib.auth.signals.user_logged_out": Rule(left_out=_REQUEST),
    "django.contrib.auth.signals.user_login_failed": Rule(left_out=_REQUEST),
    "django.tasks.signals.task_enqueued": Rule(senders=_BACKENDS),
    "django.tasks.signals.task_started": Rule(senders=_BACKENDS),
    "django.tasks.signals.task_finished": Rule(senders=_BACKENDS),
    "django.test.signals.template_rendered": Rule(
        refused="carries a template and its context, which exist in the process of a test only"
    ),
    "django.utils.autoreload.autoreload_started": Rule(
        refused="carries the reloader of the development server, which waits for what it is told"
    ),
    "django.utils.autoreload.file_changed": Rule(
        refused="asks its receivers whether to reload, and cannot wait for a worker's answer"
    ),
    "async_signals.signals.delivery_retrying": Rule(left_out=_EXCEPTION),
    "async_signals.signals.delivery_failed": Rule(left_out=_EXCEPTION),
}

_ORDINARY = Rule()


def rule_of(signal: Signal) -> tuple[str, Rule]:
    """Return the name and the rule of a signal that has a row; ``""`` for any other signal."""
    for path, rule in RULES.items():
        module, _, name = path.rpartition(".")
        if getattr(sys.modules.get(module), name, None) is signal:
            return name, rule
    return "", _ORDINARY
