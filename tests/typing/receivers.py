"""What a type checker has to know of ``async_receiver``; read by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from django.db.models.signals import post_save

from async_signals import Delivery, async_receiver, connect, current_delivery
from tests.testapp.models import Article


@async_receiver(post_save, sender=Article, on_commit=False, exclude=["raw"], queue="mail")
def on_save(sender: type[Article], instance: Article, *, created: bool, **kwargs: object) -> int:
    assert_type(current_delivery(), Delivery | None)
    return instance.pk if created else 0


# A decorated function keeps its own type,
assert_type(on_save(Article, Article(), created=True), int)
on_save(Article, created=True)  # type: ignore[call-arg]

# and an option that does not exist is seen before anything runs, or one of a wrong type.
connect(post_save, on_save, countdown="soon")  # type: ignore[arg-type]
connect(post_save, on_save, on_comit=False)  # type: ignore[call-arg]
