"""Whether the site is set up, the ledger is there, and deliveries get on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from .. import registry, stats
from ..exceptions import ReceiverNotFoundError
from ..ledger import alias
from ..ledger import spool as spooling
from ..models import LIVE_STATES, State
from .finding import ERROR, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..stats import Summary

__all__ = ["deliveries", "ledger", "settings", "spool"]

#: Seconds that a due delivery may be late before something is slow, and before it is broken.
SLOW, STUCK = 60.0, 600.0


def settings() -> Iterator[Finding]:
    """What ``manage.py check`` says about this app."""
    messages = checks.run_checks(tags=["async_signals"])
    for message in messages:
        yield Finding(
            about="settings",
            level=ERROR if message.is_serious() else WARNING,
            text=f"{message.msg} ({message.id})",
            cure=message.hint or "",
        )
    if not messages:
        yield Finding(about="settings", level=OK, text="the settings are fine")
    number = len(registry.names())
    yield Finding(
        about="receivers",
        level=OK if number else WARNING,
        text=f"{number} asynchronous receivers are registered here",
        cure="" if number else "Import the modules with @async_receiver in AppConfig.ready().",
    )


def ledger(using: str) -> Iterator[Finding]:
    """Whether a database answers and has the tables; an error ends the questions about it."""
    try:
        executor = MigrationExecutor(connections[using])
        leaves = executor.loader.graph.leaf_nodes("async_signals")
        missing = executor.migration_plan(leaves)
    except DatabaseError as exc:
        yield Finding(
            about="ledger",
            level=ERROR,
            text=f"the database {using!r} does not answer: {exc}",
            cure=f"Start it, or correct DATABASES[{using!r}]. Robust failures go to the spool.",
        )
        return
    names = ", ".join(migration.name for migration, _ in missing)
    yield Finding(
        about="ledger",
        level=ERROR if missing else OK,
        text=f"the ledger in database {using!r} "
        + (f"lacks migrations: {names}" if missing else "has its tables"),
        cure=f"manage.py migrate async_signals --database {using}" if missing else "",
    )


def deliveries(using: str) -> Iterator[Finding]:
    """Whether deliveries on a database are late, failed, held, paused, or for nobody."""
    found = stats.summary(using=using)
    is_first = using == alias()
    where, option = ("", "") if is_first else (f" on database {using!r}", f" --database {using}")
    level = OK if found.late < SLOW else WARNING if found.late < STUCK else ERROR
    yield Finding(
        about="late",
        level=level,
        text=(
            f"the oldest due delivery is {found.late:.0f} s late"
            if found.late >= 1
            else "no delivery is late"
        )
        + where,
        cure=""
        if level == OK
        else "Start a worker, or `manage.py async_signals relay`; ASYNC_SIGNALS['RELAY'] must not "
        "be False in all of them.",
    )
    if failed := found.states[State.FAILED]:
        yield Finding(
            about="failed",
            level=WARNING,
            text=f"{failed} deliveries have failed{where} and wait for a person",
            cure=f"manage.py async_signals failures{option}",
        )
    if number := stats.held_by_failures(using=using):
        yield Finding(
            about="held",
            level=WARNING,
            text=f"{number} deliveries{where} wait for their turn behind one that has failed",
            cure=f"Retry or discard what has failed: manage.py async_signals failures{option}",
        )
    for each in found.receivers:
        if each.is_paused and is_first:
            yield Finding(
                about="paused",
                level=WARNING,
                text=f"{each.receiver} is paused",
                cure=f"manage.py async_signals resume {each.receiver}",
            )
    yield from _orphans(found, where, option)


def _orphans(found: Summary, where: str, option: str) -> Iterator[Finding]:
    for each in found.receivers:
        number = sum(each.states[state] for state in (State.FAILED, *LIVE_STATES))
        if not number:
            continue
        try:
            registry.get(each.receiver)
        except ReceiverNotFoundError:
            yield Finding(
                about="orphans",
                level=ERROR,
                text=f"{number} deliveries{where} are for {each.receiver}, which nobody knows",
                cure="Name what was renamed with @async_receiver(..., aliases=[old name]), or "
                f"manage.py async_signals discard --receiver {each.receiver} --reason removed"
                f"{option}, after replay --to NAME where another receiver is to have them.",
            )


def spool() -> Iterator[Finding]:
    """Whether what was saved while broker and database were both down waits to be stored."""
    try:
        folder = spooling.folder()
    except ImproperlyConfigured:
        return  # Said by the settings.
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        yield Finding(
            about="spool",
            level=ERROR,
            text=f"the spool {folder} cannot be written",
            cure="Create it for the account that runs the site, or correct ASYNC_SIGNALS['SPOOL'].",
        )
        return
    waiting = len(list(folder.glob("*.json")))
    yield Finding(
        about="spool",
        level=WARNING if waiting else OK,
        text=f"{waiting} files wait in the spool {folder}" if waiting else "the spool is empty",
        cure="They are stored as soon as the database is back and a relay runs." if waiting else "",
    )
