"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def bundle(parts: Sequence[Part]) -> list[Part]:
    """
    Let one message stand for many of one receiver and signal, at the place of the first of them.

    What has an order or a countdown is not for a worker yet, and stays by itself. So does what has
    no time to unpack others, and what is not sealed.

    Args:
        parts: Durable messages of one transaction; some may be bundles already.
    """
    kinds: dict[Hashable, list[int]] = {}
    for place, (message, _) in enumerate(parts):
        if message.is_sealed and is_for_now(message) and _has_time(message.receiver.options):
            kind = message.receiver.name, message.envelopes[0].signal
            kinds.setdefault(kind, []).append(place)
    bundled: dict[int, Part | None] = dict(enumerate(parts))
    for places in kinds.values():
        if sum(parts[place][0].size for place in places) > FEW:
            for first, *others in _portions(places, parts):
                if others:
                    together = [parts[place][0] for place in (first, *others)]
                    bundled |= dict.fromkeys(others)
                    bundled[first] = Message.bundle(together), None
    return [part for part in bundled.values() if part is not None]


def _has_time(options: Options) -> bool:
    limits = options.time_limit, options.soft_time_limit
    return all(limit is None or limit >= UNPACKING for limit in limits)


def _portions(places: Sequence[int], parts: Sequence[Part]) -> Iterator[list[int]]:
    portion: list[int] = []
    size, length = 0, 0
    for place in places:
        message, _ = parts[place]
        if portion and (size + message.size > MOST or length + len(message.text) > MOST_TEXT):
            yield portion
            portion, size, length = [], 0, 0
        portion.append(place)
        size += message.size
        length += len(message.text)
    yield portion
