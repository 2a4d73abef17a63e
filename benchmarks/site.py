"""
The site that benchmarks of senders and workers measure: PostgreSQL, Redis, Celery.

Its receivers do as little as a receiver for ``post_save`` can: the row is fetched, and the
benchmark is told; or they mail the admins first, as the usual example does.
``ASYNC_SIGNALS_BENCHMARK`` is JSON: the name of the database and the queue, the port of the
benchmark, that of its mail server, and the apps of others that it measures beside.
"""

from __future__ import annotations

import json
import os
import socket

import django
from celery import Celery
from django.conf import settings
from django.dispatch import Signal

TOLD = json.loads(os.environ["ASYNC_SIGNALS_BENCHMARK"])

settings.configure(
    INSTALLED_APPS=[
        *("django.contrib.contenttypes", "django.contrib.auth", "async_signals"),
        *TOLD.get("apps", ()),
    ],
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
            "NAME": TOLD["name"],
        }
    },
    SECRET_KEY="only for benchmarks",
    USE_TZ=True,
    CELERY_BROKER_URL="redis://127.0.0.1:6379/10",
    CELERY_TASK_DEFAULT_QUEUE=TOLD["name"],
    CELERY_TASK_IGNORE_RESULT=True,
    # Both as robust tasks are: what is compared is what robust adds to that.
    CELERY_TASK_ACKS_LATE=True,
    ADMINS=["admin@example.com"] if django.VERSION >= (6, 0) else [("", "admin@example.com")],
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=TOLD.get("mail"),
    LOGGING_CONFIG=None,
)
app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
django.setup()

from django.core.mail import mail_admins  # noqa: E402

from async_signals import async_receiver  # noqa: E402

plain_sent, robust_sent, plain_to_mail, robust_to_mail = (Signal() for _ in range(4))
_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def done(instance, **kwargs) -> None:
    _socket.sendto(instance.username.encode(), ("127.0.0.1", TOLD["port"]))


@async_receiver(plain_sent)
def plain(sender, **kwargs) -> None:
    done(**kwargs)


@async_receiver(robust_sent, robust=True)
def robust(sender, **kwargs) -> None:
    done(**kwargs)


@async_receiver(plain_to_mail)
def plain_mail(sender, instance, **kwargs) -> None:
    mail_admins("New user", f"There is a new user: '{instance}'")
    done(instance)


@async_receiver(robust_to_mail, robust=True)
def robust_mail(sender, instance, **kwargs) -> None:
    mail_admins("New user", f"There is a new user: '{instance}'")
    done(instance)
