"""
What stands for something else travels as that.

``request.user`` arrives as the user, and a translated text as the ``str`` that it is in the
language of the sender.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.functional import LazyObject, Promise

from .table import Unsendable, add_family

if TYPE_CHECKING:
    from .table import Encoder


def _encode_object(value: LazyObject[Any], encoder: Encoder) -> Any:
    _, (wrapped,) = value.__reduce__()
    return encoder.encode(wrapped)


def kept(value: Promise) -> Any:
    """Return what *value* stands for, mostly a text; raises Unsendable."""
    # What lazy() was given: its result need not be a str.
    _, (function, args, kwargs, *_) = value.__reduce__()  # type: ignore[misc]  # A str to mypy.
    if type(args) is not tuple:  # ngettext_lazy() without its number says something else here.
        raise Unsendable(
            value,
            "expected a text, not one that waits for its number",
            "Give it the number first: text % number.",
        )
    return function(*args, **kwargs)


def _encode_promise(value: Promise, encoder: Encoder) -> Any:
    return encoder.encode(kept(value))


add_family(lambda kind: issubclass(kind, LazyObject), _encode_object)
add_family(lambda kind: issubclass(kind, Promise), _encode_promise)
