"""Deliveries side by side: what one raises keeps no other from running."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["run_each"]

T = TypeVar("T")


def run_each(run: Callable[[T], object], items: Iterable[T]) -> None:
    """
    Call ``run(item)`` for every item, and raise afterwards what was raised.

    Raises:
        Exception: What the only one that failed has raised; an ``ExceptionGroup`` where
            several failed.
    """
    raised = []
    for item in items:
        try:
            run(item)
        except Exception as exc:  # noqa: BLE001  (raised below)
            raised.append(exc)
    if len(raised) == 1:
        raise raised[0]
    if raised:
        raise ExceptionGroup(f"{len(raised)} deliveries failed", raised)
