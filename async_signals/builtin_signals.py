"""
What Django's own signals carry that cannot leave the process.

These arguments are left out of every delivery; a receiver that cannot do without one is
refused when it is connected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import signals as auth_signals
from django.core import signals as core_signals
from django.db.backends import signals as database_signals
from django.db.models import signals as model_signals

if TYPE_CHECKING:
    from django.dispatch import Signal

__all__ = ["announces_instances", "carries_deleted_rows", "left_out"]

_LEFT_OUT: dict[Signal, frozenset[str]] = {
    core_signals.request_started: frozenset({"environ", "scope"}),
    core_signals.got_request_exception: frozenset({"request"}),
    auth_signals.user_logged_in: frozenset({"request"}),
    auth_signals.user_logged_out: frozenset({"request"}),
    auth_signals.user_login_failed: frozenset({"request"}),
    database_signals.connection_created: frozenset({"connection"}),
    model_signals.pre_migrate: frozenset({"app_config", "stdout", "apps", "plan"}),
    model_signals.post_migrate: frozenset({"app_config", "stdout", "apps", "plan"}),
}

_NOTHING: frozenset[str] = frozenset()


def left_out(signal: Signal) -> frozenset[str]:
    """Return the names of the arguments of *signal* that are never sent."""
    return _LEFT_OUT.get(signal, _NOTHING)


def carries_deleted_rows(signal: Signal) -> bool:
    """Whether the instances that *signal* carries have no row when the worker looks."""
    return signal is model_signals.post_delete or signal is model_signals.pre_delete


def announces_instances(signal: Signal) -> bool:
    """Whether *signal* is sent for every instance made, also for one that a worker rebuilds."""
    return signal is model_signals.pre_init or signal is model_signals.post_init
