"""
The site that benchmarks of senders and workers measure; ``benchmarks.settings`` are its settings.

It is set up as Celery's manual has it, so that Celery does to Django's connections what it does
on every site. Its receivers do as little as a receiver for ``post_save`` can: the row is fetched,
and the benchmark is told; or they mail the admins first, as the usual example does.
"""

from __future__ import annotations

import json
import os
import socket

import django
from celery import Celery
from django.dispatch import Signal

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
# None, as it is by default: Celery closes Django's connections before and after each task.
app.conf.CELERY_DB_REUSE_MAX = json.loads(os.environ["ASYNC_SIGNALS_BENCHMARK"]).get("reuse")
django.setup()

from django.core.mail import mail_admins  # noqa: E402

from async_signals import async_receiver  # noqa: E402
from benchmarks.settings import TOLD  # noqa: E402

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
