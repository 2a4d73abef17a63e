"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..wire.message import Message
from .outbox import is_for_now

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from ..options import Options
    from .coalescing import Part

__all__ = ["bundle"]

#: Deliveries for one receiver that are stored each by itself, at most.
FEW = 100
#: Deliveries in a bundle, and characters, at most: one worker unpacks it, in one transaction.
MOST, MOST_TEXT = 1_000, 500_000
#: Seconds that this may take on a busy site; it takes less than one. A receiver's limits hold.
UNPACKING = 10


class Departure(Protocol):
    """What waits for its transaction."""

    parts: list[Part]
    runs_receivers: bool


def bundle(departures: Sequence[Departure]) -> None:
    """
    Let the first of many departures for one receiver leave for all of them, which are empty then.

    What has an order or a countdown is not for a worker yet, and stays by itself. So does what a
    test wants to see, what Celery runs at once, and what has no time to unpack others.
    """
    kinds: dict[Hashable, list[Departure]] = {}
    for departure in departures:
        [(message, _)] = departure.parts
        is_alone = departure.runs_receivers or not _has_time(message.receiver.options)
        if is_for_now(message) and not is_alone:
            kind = message.receiver.name, message.envelopes[0].signal
            kinds.setdefault(kind, []).append(departure)
    for some in kinds.values():
        if len(some) > FEW:
            for first, *others in _portions(some):
                if others:
                    together = [departure.parts[0][0] for departure in (first, *others)]
                    first.parts = [(Message.bundle(together), None)]
                for other in others:
                    other.parts = []


def _has_time(options: Options) -> bool:
    limits = options.time_limit, options.soft_time_limit
    return all(limit is None or limit >= UNPACKING for limit in limits)


def _portions(departures: Sequence[Departure]) -> Iterator[list[Departure]]:
    portion: list[Departure] = []
    size = 0
    for departure in departures:
        length = len(departure.parts[0][0].text)
        if portion and (len(portion) == MOST or size + length > MOST_TEXT):
            yield portion
            portion, size = [], 0
        portion.append(departure)
        size += length
    yield portion
