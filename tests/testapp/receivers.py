"""Receivers that a worker process runs for the tests; each reports what it got."""

from __future__ import annotations

import asyncio
import os

from django.core.signals import request_finished
from django.db.backends.signals import connection_created
from django.db.models.signals import m2m_changed, post_delete, post_save

from async_signals import Retry, async_receiver, current_delivery

from . import signals
from .models import Echo, Label, Story, Tag
from .orders import carry_out
from .reports import report


@async_receiver(signals.reported)
def plain(sender, number, **kwargs):
    delivery = current_delivery()
    report(
        receiver="plain",
        number=number,
        pid=os.getpid(),
        delivery=delivery.id,
        event=delivery.event_id,
        attempt=delivery.attempt,
        sent_at=delivery.sent_at.isoformat(),
    )


@async_receiver(signals.reported)
async def awaited(sender, number, **kwargs):
    await asyncio.sleep(0)
    report(receiver="awaited", number=number, pid=os.getpid())


@async_receiver(signals.broken)
def broken(sender, number, **kwargs):
    raise LookupError(f"broken {number}")


@async_receiver(signals.limited, rate_limit="100/s")
def limited(sender, number, **kwargs):
    report(receiver="limited", number=number)


@async_receiver(signals.many)
def many(sender, batch, number, **kwargs):
    report(receiver="many", batch=batch, number=number)


# The tests send this signal by the dozen; only a handler that is marked is reported.
@async_receiver(request_finished, when=lambda sender, **kwargs: hasattr(sender, "is_reported"))
def request_done(sender, **kwargs):
    report(receiver="request_done", sender=f"{sender.__module__}.{sender.__qualname__}")


#: The tests open connections by the dozen, and so does the relay of a worker.
reports_connections = "ASYNC_SIGNALS_TEST_CONNECTIONS" in os.environ


@async_receiver(connection_created, when=lambda sender, **kwargs: reports_connections)
def connected(sender, **kwargs):
    Label.objects.count()  # Opens a connection: Celery has closed that of the last delivery.
    report(receiver="connected", sent_at=current_delivery().sent_at.timestamp())


@async_receiver(post_save, sender=Story)
def story_saved(sender, instance, created, using, **kwargs):
    report(
        receiver="story_saved",
        sender=sender._meta.label,
        title=instance.title,
        alias=instance._state.db,
        using=using,
        created=created,
    )


@async_receiver(post_delete, sender=Story)
def story_deleted(sender, instance, **kwargs):
    report(
        receiver="story_deleted",
        title=instance.title,
        pk=instance.pk,
        alias=instance._state.db,
    )


@async_receiver(m2m_changed, sender=Story.labels.through)
def labels_changed(sender, instance, action, pk_set, model, **kwargs):
    report(
        receiver="labels_changed",
        title=instance.title,
        action=action,
        pk_set=sorted(pk_set or ()),
        model=model._meta.label,
    )


@async_receiver(post_save, sender=Label, missing="skip")
def missing_skip(sender, instance, **kwargs):
    report(receiver="missing_skip", name=instance.name)


@async_receiver(post_save, sender=Label, missing="fail")
def missing_fail(sender, instance, **kwargs):
    report(receiver="missing_fail", name=instance.name)


@async_receiver(post_save, sender=Label, missing="snapshot")
def missing_snapshot(sender, instance, **kwargs):
    report(receiver="missing_snapshot", name=instance.name)


@async_receiver(post_save, sender=Label, missing="retry")
def missing_retry(sender, instance, **kwargs):
    report(receiver="missing_retry", name=instance.name, attempt=current_delivery().attempt)


@async_receiver(
    signals.ordered,
    robust=True,
    retry=Retry(initial_delay=0, max_attempts=4),
    soft_time_limit=20,
)
def obedient(sender, number, orders=(), **kwargs):
    """Do in the n-th run what the n-th order says; succeed when none is left."""
    carry_out(number, orders, receiver="obedient", attempt=current_delivery().attempt)


@async_receiver(
    post_save, sender=Echo, when=lambda sender, instance, **kwargs: instance.name[0] == "p"
)
def plain_echo(sender, instance, **kwargs):
    report(receiver="plain_echo", name=instance.name, depth=len(current_delivery().chain))
    instance.save()


@async_receiver(
    post_save,
    sender=Echo,
    when=lambda sender, instance, **kwargs: instance.name[0] == "r",
    robust=True,
)
def robust_echo(sender, instance, **kwargs):
    report(receiver="robust_echo", name=instance.name, depth=len(current_delivery().chain))
    instance.save()


@async_receiver(
    post_save,
    sender=Echo,
    when=lambda sender, instance, **kwargs: instance.name[0] == "d",
    durable=True,
    effect="once",
    retry=Retry(initial_delay=0),
)
def durable_echo(sender, instance, using, **kwargs):
    """Write a row, and then do what the name says, ``d|order|order|number``."""
    Tag.objects.using(using).create(name=instance.name)
    carry_out(instance.name, instance.name.split("|")[1:-1], receiver="durable_echo")
