"""System checks: what ``manage.py check`` says about the site's set-up."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from . import registry
from .conf import get_settings
from .encryption import encrypted
from .publisher import celery_app, foreign_task, is_unconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.core.checks import CheckMessage

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
def check_signing(**kwargs: object) -> Iterable[CheckMessage]:
    """W003: messages are not signed."""
    try:
        signing = get_settings().signing
    except ImproperlyConfigured:
        return []  # Said by E001.
    if signing:
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
