"""
Who is called by the same ``send()``, as far as it is known since they were connected.

Most models have one asynchronous receiver for a signal: each call of it is an event of its own,
and nobody need look for others that belong to it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, cast

from django.db.models.base import ModelBase
from django.db.models.signals import ModelSignal
from django.db.models.utils import make_model_tuple
from django.dispatch import Signal

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Audience", "join_audience"]


class Audience:
    """Those that one ``send()`` calls: its members keep it, and it goes with the last of them."""

    __slots__ = ("__weakref__", "is_one")

    def __init__(self) -> None:
        self.is_one = True  #: It has one member.


#: By signal, those of its senders, as far as these can be told apart; under None: of all of them.
_audiences: weakref.WeakKeyDictionary[Signal, weakref.WeakValueDictionary[Hashable, Audience]] = (
    weakref.WeakKeyDictionary()
)
_joining = threading.RLock()  # What the collector finds meanwhile may connect, too.


def join_audience(signal: Signal, sender: object) -> Audience:
    """Return the audience of one more connection to *signal*."""
    place = _place_of(sender)
    with _joining:
        audiences = _audiences.setdefault(signal, weakref.WeakValueDictionary())
        own, of_all = audiences.get(place), audiences.get(None)
        audience = own or Audience()
        audiences[place] = audience
        # A signal of another class may call whom it likes.
        if own is not None or of_all is not None or type(signal) not in (Signal, ModelSignal):
            audience.is_one = False
        if of_all is not None:
            of_all.is_one = False
        elif place is None and len(audiences) > 1:
            for each in audiences.values():
                each.is_one = False
    return audience


def _place_of(sender: Any) -> Hashable:
    """Return what Django knows *sender* by; a model by its name, which it may be given instead."""
    if sender is None:
        return None
    if isinstance(sender, (str, ModelBase)):
        with contextlib.suppress(AttributeError, ValueError):  # Model itself, and other texts.
            app_label, name = make_model_tuple(cast("Any", sender))
            return app_label, name
    if hasattr(sender, "__func__"):
        return id(sender.__self__), id(sender.__func__)
    return id(sender)
