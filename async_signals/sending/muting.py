"""Send nothing to asynchronous receivers for a while, in one context only."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from django.dispatch import Signal

from .. import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..registry import Receiver

__all__ = ["is_muted", "muted"]

#: One entry for each ``with`` block around this context: what it mutes; empty: everything.
_mutes: ContextVar[tuple[frozenset[object], ...]] = ContextVar("async_signals_mutes", default=())


@contextlib.contextmanager
def muted(*what: Signal | Callable[..., object] | str) -> Iterator[None]:
    """
    Send nothing to asynchronous receivers inside the ``with`` block, in this context only.

    Args:
        *what: Signals, receivers or receivers' names; none of them means all.
    """
    muted_ones = frozenset(
        item if isinstance(item, (str, Signal)) else registry.name_for(item) for item in what
    )
    token = _mutes.set((*_mutes.get(), muted_ones))
    try:
        yield
    finally:
        _mutes.reset(token)


def is_muted(receiver: Receiver, signal: Signal) -> bool:
    """Whether *receiver* gets nothing of *signal* in this context."""
    mutes = _mutes.get()
    return bool(mutes) and any(
        not each or receiver.name in each or signal in each for each in mutes
    )
