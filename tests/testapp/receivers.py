"""Receivers that a worker process runs for the tests; each reports what it got."""

from __future__ import annotations

import asyncio
import os

from django.core.signals import request_finished
from django.db.models.signals import m2m_changed, post_delete, post_save

from async_signals import async_receiver, current_delivery

from . import signals
from .models import Label, Story
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
