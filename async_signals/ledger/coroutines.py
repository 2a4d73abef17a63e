"""What waits for a database, where the sender is a coroutine, which may not."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["off_the_loop"]

T = TypeVar("T")


def off_the_loop(use: Callable[[], T], using: str) -> T:
    """
    Return what *use* returns; in a thread of its own where Django refuses the database on *using*.

    Whoever sends in a coroutine waits for the broker, too; ``asend()`` does neither.
    """
    try:
        return use()
    except SynchronousOnlyOperation:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(_and_close, use, using).result()


def _and_close(use: Callable[[], T], using: str) -> T:
    """Do it in a thread that ends with it, and so must its connection."""
    try:
        return use()
    finally:
        connections[using].close()
