"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..conf import get_settings
from ..wire.envelope import bundled, seal
from ..wire.message import Message
from .outbox import is_for_now

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from ..options import Options
    from .coalescing import Part

__all__ = ["FEW", "bundle", "seal_together"]

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
    return _merged(parts, _bundled, MOST, is_sealed=True)


def seal_together(parts: Sequence[Part]) -> list[Part]:
    """
    Let bundles stand for what is not sealed, each of many written as one text.

    That takes half as long as to write a text of each.
    """
    return _merged(parts, _sealed, FEW, is_sealed=False)


def _bundled(messages: Sequence[Message]) -> str:
    return bundled(message.text for message in messages)


def _sealed(messages: Sequence[Message]) -> str | None:
    text = seal([message.envelopes[0] for message in messages])
    # Where all of them are no more than one may be, none is too large.
    return text if len(text) <= min(get_settings().max_message_size, MOST_TEXT) else None


def _merged(
    parts: Sequence[Part],
    text_of: Callable[[Sequence[Message]], str | None],
    most: int,
    *,
    is_sealed: bool,
) -> list[Part]:
    kinds: dict[Hashable, list[int]] = {}
    for place, (message, _) in enumerate(parts):
        if message.is_sealed is is_sealed and is_for_now(message):
            kind = message.receiver.name, message.envelopes[0].signal
            kinds.setdefault(kind, []).append(place)
    merged: dict[int, Part | None] = dict(enumerate(parts))
    for places in kinds.values():
        options = parts[places[0]][0].receiver.options
        if sum(parts[place][0].size for place in places) > FEW and _has_time(options):
            for portion in _portions(places, parts, most):
                together = [parts[place][0] for place in portion]
                if len(together) > 1 and (text := text_of(together)) is not None:
                    merged |= dict.fromkeys(portion)
                    merged[portion[0]] = Message.bundle(together, text), None
    return [part for part in merged.values() if part is not None]


def _has_time(options: Options) -> bool:
    limits = options.time_limit, options.soft_time_limit
    return all(limit is None or limit >= UNPACKING for limit in limits)


def _portions(places: Sequence[int], parts: Sequence[Part], most: int) -> Iterator[list[int]]:
    portion: list[int] = []
    size, length = 0, 0
    for place in places:
        message, _ = parts[place]
        longer = length + message.length
        if portion and (size + message.size > most or longer > MOST_TEXT):
            yield portion
            portion, size, length = [], 0, 0
        portion.append(place)
        size += message.size
        length += message.length
    yield portion
