"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..conf import get_settings
from ..wire.envelope import APART, bundled, seal, seal_alike
from ..wire.message import Message
from .event import Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from ..options import Options
    from .coalescing import Part

__all__ = ["FEW", "are_many", "bundle", "seal_together"]

#: Deliveries for one receiver that are stored each by itself, at most.
FEW = 100
#: Deliveries in a bundle, and their characters, at most: one worker unpacks it, in one transaction.
MOST, MOST_TEXT = 1_000, 500_000
#: Seconds that this may take on a busy site; it takes less than one. A receiver's limits hold.
UNPACKING = 10


def are_many(parts: Iterable[Part]) -> bool:
    """Whether there are more than are stored each by itself in any case."""
    return sum(message.size for message, _ in parts) > FEW


def bundle(parts: Sequence[Part]) -> list[Part]:
    """
    Let one message stand for many of one receiver and signal, at the place of the first of them.

    What has an order or a countdown is not for a worker yet, and stays by itself. So does what has
    no time to unpack others, and what is not sealed.

    Args:
        parts: Durable messages of one transaction; some may be bundles already.
    """
    return _merged(parts, _joined)


def seal_together(parts: Sequence[Part]) -> list[Part]:
    """
    Let bundles stand for what is not sealed, each of at most a hundred, written as one text.

    That takes half as long as to write a text of each. Of large ones a text has fewer.
    """
    return _merged(parts, _sealed)


def _merged(
    parts: Sequence[Part],
    texts_of: Callable[[Sequence[int], Sequence[Part]], Iterator[tuple[Sequence[int], str]]],
) -> list[Part]:
    merged: dict[int, Part | None] = dict(enumerate(parts))
    for places in _kinds(parts):
        for some, text in texts_of(places, parts):
            merged |= dict.fromkeys(some)
            merged[some[0]] = Message.bundle([parts[place][0] for place in some], text), None
    return [part for part in merged.values() if part is not None]


def _kinds(parts: Sequence[Part]) -> Iterator[list[int]]:
    """Yield the places of those, many each, that one bundle may stand for."""
    kinds: dict[Hashable, list[int]] = {}
    for place, (message, _) in enumerate(parts):
        if message.order is None:
            kinds.setdefault((message.receiver.name, message.signal), []).append(place)
    for places in kinds.values():
        messages = [parts[place][0] for place in places]
        is_many = sum([each.size for each in messages]) > FEW
        if is_many and _can_be_unpacked(messages[0].receiver.options):
            yield places


def _joined(places: Sequence[int], parts: Sequence[Part]) -> Iterator[tuple[Sequence[int], str]]:
    sealed = [place for place in places if parts[place][0].is_sealed]
    for portion in _portions(sealed, parts):
        if len(portion) > 1:
            yield portion, bundled(parts[place][0].text for place in portion)


def _sealed(places: Sequence[int], parts: Sequence[Part]) -> Iterator[tuple[Sequence[int], str]]:
    # Where all of them are no more than one may be, none is too large, by itself neither.
    most = min(get_settings().max_message_size, MOST_TEXT) - APART
    drafts = {
        place: draft
        for place in places
        if type(draft := parts[place][0]) is Draft and not draft.is_sealed
    }
    for _, run in itertools.groupby(drafts, key=lambda place: id(drafts[place].cause)):
        unsealed = list(run)
        while len(unsealed) > 1:
            # The first lends its event to the row of the bundle. As large as it is are most.
            first = drafts[unsealed[0]].envelopes[0]._replace(id="")
            number = max(1, min(FEW, most // len(seal([first]))))
            some, unsealed = unsealed[:number], unsealed[number:]
            if number > 1:
                others = [
                    (each.event.id_if_shared, each.event.sent, each.sender, each.kwargs)
                    for each in map(drafts.__getitem__, some[1:])
                ]
                text = seal_alike(first, others)
                if len(text) <= most:
                    yield some, text


def _can_be_unpacked(options: Options) -> bool:
    """Whether deliveries with *options* are for a worker at once, which has time to unpack."""
    if options.countdown:
        return False
    limits = options.time_limit, options.soft_time_limit
    return all(limit is None or limit >= UNPACKING for limit in limits)


def _portions(places: Sequence[int], parts: Sequence[Part]) -> Iterator[list[int]]:
    portion: list[int] = []
    size, length = 0, 0
    for place in places:
        message, _ = parts[place]
        own = len(message.text) + APART * message.size
        if portion and (size + message.size > MOST or length + own > MOST_TEXT):
            yield portion
            portion, size, length = [], 0, 0
        portion.append(place)
        size += message.size
        length += own
    if portion:
        yield portion
