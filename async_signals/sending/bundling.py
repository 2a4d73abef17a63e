"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

import itertools
import operator
from collections import defaultdict
from typing import TYPE_CHECKING

from ..conf import get_settings
from ..wire.envelope import APART, bundled, seal, seal_alike
from ..wire.message import Message
from .event import Draft, ids_if_shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from ..registry import Receiver
    from .coalescing import Part

    #: Messages, and the one that stands for them.
    Bundle: TypeAlias = tuple[Sequence[Message], Message]

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
    bundles: list[Bundle] = []
    for messages in _many(parts):
        for some in _portions([message for message in messages if message.sealed]):
            if len(some) > 1:
                text = bundled(message.sealed for message in some)
                length = sum(map(_length, some))
                bundles.append((some, Message.bundle(some, text, length=length)))
    return _replaced(parts, bundles)


def seal_together(parts: Sequence[Part]) -> list[Part]:
    """
    Let bundles stand for what is not sealed, each of at most a hundred, written as one text.

    That is a fraction of the work of a text for each. Of large ones a text has fewer.
    """
    bundles: list[Bundle] = []
    for messages in _many(parts):
        drafts = [each for each in messages if type(each) is Draft and not each.sealed]
        names = [(draft.cause, *draft.kwargs) for draft in drafts]
        for _, alike in itertools.groupby(zip(names, drafts, strict=True), operator.itemgetter(0)):
            bundles += _written([draft for _, draft in alike])
    return _replaced(parts, bundles)


def _many(parts: Iterable[Part]) -> Iterator[list[Message]]:
    """Yield those, many each, that one bundle may stand for: for a worker that can unpack it."""
    kinds: defaultdict[tuple[Receiver, str | None], list[Message]] = defaultdict(list)
    for message, _ in parts:
        if message.order is None:
            kinds[message.receiver, message.signal].append(message)
    for (receiver, _), messages in kinds.items():
        limits = receiver.options.time_limit, receiver.options.soft_time_limit
        is_for_now = not receiver.options.countdown
        has_time = all(limit is None or limit >= UNPACKING for limit in limits)
        if is_for_now and has_time and sum([message.size for message in messages]) > FEW:
            yield messages


def _written(drafts: Sequence[Draft]) -> Iterator[Bundle]:
    """Yield bundles of some of *drafts* after the other, whose arguments have the same names."""
    # Where all of them are no more than one may be, none is too large, by itself neither.
    most = min(get_settings().max_message_size, MOST_TEXT) - APART
    while len(drafts) > 1:
        # The first lends its event to the row of the bundle. As large as it is are most.
        first = drafts[0].envelopes[0]._replace(id="")
        alone = len(seal([first]))
        number = max(1, min(FEW, most // alone))
        some, drafts = drafts[:number], drafts[number:]
        if number > 1:
            text, length = seal_alike(
                first,
                alone=alone,
                events=ids_if_shared([draft.event for draft in some]),
                sent=[draft.event.sent for draft in some],
                senders=[draft.sender for draft in some],
                arguments=[draft.kwargs for draft in some],
            )
            if len(text) <= most and length <= MOST_TEXT:
                yield some, Message.bundle(some, text, length=length)


def _portions(sealed: Iterable[Message]) -> Iterator[Sequence[Message]]:
    """Yield as many of *sealed* after the other as one bundle may stand for."""
    portion: list[Message] = []
    size, length = 0, 0
    for message in sealed:
        own = _length(message)
        if portion and (size + message.size > MOST or length + own > MOST_TEXT):
            yield portion
            portion, size, length = [], 0, 0
        portion.append(message)
        size += message.size
        length += own
    if portion:
        yield portion


def _length(message: Message) -> int:
    """Return the characters of its deliveries, each by itself."""
    return message.length or len(message.sealed)


def _replaced(parts: Sequence[Part], bundles: Sequence[Bundle]) -> list[Part]:
    """Return *parts* with each of *bundles* at the place of the first that it stands for."""
    gone = {id(message) for some, _ in bundles for message in some}
    instead: dict[int, Part] = {id(some[0]): (one, None) for some, one in bundles}
    return [
        instead.get(id(part[0]), part)
        for part in parts
        if id(part[0]) not in gone or id(part[0]) in instead
    ]
