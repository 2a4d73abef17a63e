"""Receivers that cause themselves: a worker has no stack that would overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..conf import get_settings
from ..exceptions import RecursionLimitError

if TYPE_CHECKING:
    from ..delivery import Delivery

__all__ = ["check_recursion"]


def check_recursion(receiver: str, cause: Delivery) -> None:
    """
    Refuse to run *receiver* once more than it may run in one chain.

    Raises:
        RecursionLimitError: It is in the chain of *cause* ``MAX_RECURSION`` times already.
    """
    chain = (*cause.chain, cause.receiver)
    limit = get_settings().max_recursion
    if chain.count(receiver) >= limit:
        raise RecursionLimitError(receiver, chain, limit)
