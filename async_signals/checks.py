"""System checks: what ``manage.py check`` says about the site's set-up."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models import Model
from django.db.models.signals import post_save, pre_save

from . import registry
from .atomic import AtomicSave
from .conf import get_settings
from .publisher import celery_app, foreign_task, is_unconfigured
from .wire.encryption import encrypted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.core.checks import CheckMessage

    from .registry import Receiver

__all__: list[str] = []


@checks.register("async_signals")
def check_settings(**kwargs: object) -> Iterable[CheckMessage]:
    """E001: ASYNC_SIGNALS cannot be used; E002: the Celery app cannot be imported."""
    try:
        get_settings()
        encrypted("")  # Whether the package for it is there.
    except ImproperlyConfigured as exc:
        return [checks.Error(str(exc), id="async_signals.E001")]
    try:
        app = celery_app()
    except ImportError as exc:
        return [checks.Error(f"cannot import the Celery app: {exc}.", id="async_signals.E002")]
    if is_unconfigured(app):
        return [
            checks.Warning(
                "no Celery app is configured in this process: deliveries would go to Celery's "
                "default broker on localhost.",
                hint="Import your Celery app in the __init__.py of the project's package, or "
                "name it: ASYNC_SIGNALS = {'CELERY_APP': 'project.celery.app'}.",
                id="async_signals.W001",
            )
        ]
    return []


@checks.register("async_signals")
def check_names(**kwargs: object) -> Iterable[CheckMessage]:
    """E003: a Celery task of the site has the name of a receiver."""
    try:
        app = celery_app()
    except (ImportError, ImproperlyConfigured):
        return []  # Said by the check before.
    return [
        checks.Error(
            f"the Celery task {name!r} has the name of an asynchronous receiver, whose deliveries "
            "would be lost.",
            hint="Remove @shared_task or @app.task from the receiver: it is a task by itself; or "
            "give one of them another name with name=...",
            id="async_signals.E003",
        )
        for name in registry.names()
        if foreign_task(app, name)
    ]


@checks.register("async_signals")
def check_databases(**kwargs: object) -> Iterable[CheckMessage]:
    """E005: a durable receiver's database can have no tables of the ledger; asks no database."""
    # Models are imported when the apps are ready, checks a moment before.
    from .models import Delivery  # noqa: PLC0415

    try:
        get_settings()
    except ImproperlyConfigured:
        return []  # Said by E001.
    return [
        checks.Error(
            f"the durable receiver {receiver.name} waits for commits on the database {using!r}, "
            + (
                "where DATABASE_ROUTERS do not allow the tables of async_signals."
                if using in connections
                else "which is not in DATABASES."
            ),
            hint=f"Let allow_migrate() allow async_signals there and run manage.py migrate "
            f"--database {using}; or name another database with @async_receiver(..., using=...).",
            id="async_signals.E005",
        )
        for receiver in map(registry.get, registry.names())
        if receiver.options.durable
        and (using := receiver.options.using) is not None
        and (using not in connections or not router.allow_migrate_model(using, Delivery))
    ]


@checks.register("async_signals")
def check_autocommit(**kwargs: object) -> Iterable[CheckMessage]:
    """E006: what is written down of deliveries is never committed."""
    from .ledger import alias  # noqa: PLC0415  (as above)

    try:
        get_settings()
    except ImproperlyConfigured:
        return []  # Said by E001.
    options = [registry.get(name).options for name in registry.names()]
    robust = [each for each in options if each.robust]
    used = {alias() for _ in robust} | {
        each.using for each in robust if each.durable and each.using
    }
    return [
        checks.Error(
            f"the database {using!r} has 'AUTOCOMMIT': False: what a worker and a relay write down "
            "of robust deliveries is never committed there.",
            hint="Remove it from DATABASES; or let DATABASE_ROUTERS send the tables of "
            "async_signals to another database.",
            id="async_signals.E006",
        )
        for using in sorted(used & set(connections))
        if not connections[using].settings_dict["AUTOCOMMIT"]
    ]


@checks.register("async_signals")
def check_transactions(**kwargs: object) -> Iterable[CheckMessage]:
    """W004: rows are committed before the durable receivers of their saves hear of them."""
    try:
        if get_settings().durable_outside_atomic != "warn":
            return []  # The site has said what it wants.
    except ImproperlyConfigured:
        return []  # Said by E001.
    exposed: dict[str, set[str]] = {}
    for receiver, model in _durable_receivers_of_saves():
        using = receiver.options.using or router.db_for_write(model or Model)
        if not issubclass(model or Model, AtomicSave) and not _has_atomic_requests(using):
            exposed.setdefault(using, set()).add(receiver.name)
    return [
        checks.Warning(
            f"the durable receivers of saves {', '.join(sorted(names)[:3])}"
            f"{' ...' if len(names) > 3 else ''} lose the event where a process dies between "
            f"save() and its signal: the database {using!r} has no ATOMIC_REQUESTS, and save() "
            "has committed by then.",
            hint="Let the models extend async_signals.AtomicSave, or set ATOMIC_REQUESTS; where "
            "all saves are inside transaction.atomic(), set "
            "ASYNC_SIGNALS['DURABLE_OUTSIDE_ATOMIC'] to 'raise'.",
            id="async_signals.W004",
        )
        for using, names in sorted(exposed.items())
    ]


def _durable_receivers_of_saves() -> Iterator[tuple[Receiver, type[Model] | None]]:
    """Yield those of ``pre_save`` and ``post_save`` with the sender's model; None: every model."""
    for receiver in map(registry.get, registry.names()):
        if receiver.options.durable:
            for signal in (pre_save, post_save):
                for sender in receiver.signals.get(signal, ()):
                    yield receiver, apps.get_model(sender) if isinstance(sender, str) else sender


def _has_atomic_requests(using: str) -> bool:
    return using in connections and bool(connections[using].settings_dict["ATOMIC_REQUESTS"])


@checks.register("async_signals")
def check_signing(**kwargs: object) -> Iterable[CheckMessage]:
    """W003: messages are not signed; W006: retired keys are listed beside no key of one's own."""
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []  # Said by E001.
    if settings.signing and settings.signing_key is None and settings.signing_key_fallbacks:
        return [
            checks.Warning(
                "SIGNING_KEY_FALLBACKS is not read: without SIGNING_KEY, messages are signed with "
                "Django's SECRET_KEY.",
                hint="Set SIGNING_KEY, too; or list retired keys in SECRET_KEY_FALLBACKS.",
                id="async_signals.W006",
            )
        ]
    if settings.signing:
        return []
    return [
        checks.Warning(
            "messages are not signed: whoever can write to the broker can call any receiver with "
            "any arguments.",
            hint="Remove 'SIGNING': False from ASYNC_SIGNALS.",
            id="async_signals.W003",
        )
    ]


@checks.register("async_signals")
def check_admins(**kwargs: object) -> Iterable[CheckMessage]:
    """W005: alerts are mailed to nobody."""
    try:
        alert_admins = get_settings().alert_admins
    except ImproperlyConfigured:
        return []  # Said by E001.
    if not alert_admins or django_settings.ADMINS:
        return []
    return [
        checks.Warning(
            "alerts are to be mailed to the ADMINS, and there are none: nobody is told.",
            hint="Set ADMINS; or remove 'ALERT_ADMINS': True from ASYNC_SIGNALS.",
            id="async_signals.W005",
        )
    ]


@checks.register("async_signals")
def check_time_zones(**kwargs: object) -> Iterable[CheckMessage]:
    """E004: the ledger's times would mean nothing."""
    robust = [name for name in registry.names() if registry.get(name).options.robust]
    if django_settings.USE_TZ or not robust:
        return []
    return [
        checks.Error(
            f"robust receivers, as {robust[0]}, need times with a zone: the ledger compares those "
            "of several machines.",
            hint="Set USE_TZ = True, Django's default.",
            id="async_signals.E004",
        )
    ]


@checks.register("async_signals")
def check_distributions(**kwargs: object) -> Iterable[CheckMessage]:
    """W002: another distribution has installed a package of the same import name."""
    others = {
        name
        for name in importlib.metadata.packages_distributions().get("async_signals", [])
        if name != "django-async-signals"
    }
    return [
        checks.Warning(
            f"the distribution {name!r} installs a package called async_signals too, over this "
            "one or under it.",
            hint=f"pip uninstall {name}; pip install --force-reinstall django-async-signals.",
            id="async_signals.W002",
        )
        for name in sorted(others)
    ]
