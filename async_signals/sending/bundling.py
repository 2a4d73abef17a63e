"""
Many deliveries of one transaction and receiver: one row of the ledger stands for them.

The ledger's indexes serve people, and cost a sender more than all the rest. So what a large
transaction sends is stored as a bundle, and a worker puts the deliveries themselves in its place,
outside of anybody's request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from ..conf import get_settings
from ..wire.envelope import APART, bundled, seal, seal_alike
from ..wire.message import Message
from .event import Draft, ids_if_shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from ..registry import Receiver
    from .coalescing import Part

    Kind: TypeAlias = tuple[Receiver, str | None]  #: A receiver, and the path of a signal.

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
    kinds: defaultdict[Kind, dict[int, Message]] = defaultdict(dict)
    for place, (message, _) in enumerate(parts):
        if message.order is None:
            kinds[message.receiver, message.signal][place] = message
    merged: dict[int, Part | None] = dict(enumerate(parts))
    for kind, messages in kinds.items():
        if _are_bundled(kind, sum([message.size for message in messages.values()])):
            sealed = {place: message for place, message in messages.items() if message.sealed}
            for some in _portions(sealed):
                if len(some) > 1:
                    _merge(merged, some, bundled(message.sealed for message in some.values()))
    return [part for part in merged.values() if part is not None]


def seal_together(parts: Sequence[Part]) -> list[Part]:
    """
    Let bundles stand for what is not sealed, each of at most a hundred, written as one text.

    That is a fraction of the work of a text for each. Of large ones a text has fewer.
    """
    sizes: Counter[Kind] = Counter()
    alike: defaultdict[tuple[Any, ...], dict[int, Draft]] = defaultdict(dict)
    for place, (message, _) in enumerate(parts):
        if message.order is not None:
            continue
        if message.sealed or type(message) is not Draft:
            sizes[message.receiver, message.signal] += message.size
        else:
            names = message.kwargs
            alike[message.receiver, message.signal, id(message.cause), *names][place] = message
    for (receiver, signal, *_), drafts in alike.items():
        sizes[receiver, signal] += len(drafts)
    merged: dict[int, Part | None] = dict(enumerate(parts))
    for (receiver, signal, *_), drafts in alike.items():
        if _are_bundled((receiver, signal), sizes[receiver, signal]):
            for some, text in _written(drafts):
                _merge(merged, some, text)
    return [part for part in merged.values() if part is not None]


def _merge(merged: dict[int, Part | None], some: Mapping[int, Message], text: str) -> None:
    """Put a bundle of *some*, by their places, at the place of the first."""
    merged |= dict.fromkeys(some)
    merged[next(iter(some))] = Message.bundle([*some.values()], text), None


def _are_bundled(kind: Kind, number: int) -> bool:
    """Whether *number* deliveries are many, and for a worker at once, which can unpack them."""
    receiver, _ = kind
    options = receiver.options
    if number <= FEW or options.countdown:
        return False
    limits = options.time_limit, options.soft_time_limit
    return all(limit is None or limit >= UNPACKING for limit in limits)


def _written(drafts: Mapping[int, Draft]) -> Iterator[tuple[Mapping[int, Draft], str]]:
    """Yield some of *drafts* after the other, each with their text."""
    # Where all of them are no more than one may be, none is too large, by itself neither.
    most = min(get_settings().max_message_size, MOST_TEXT) - APART
    waiting = [*drafts.items()]
    while len(waiting) > 1:
        # The first lends its event to the row of the bundle. As large as it is are most.
        first = waiting[0][1].envelopes[0]._replace(id="")
        number = max(1, min(FEW, most // len(seal([first]))))
        some, waiting = dict(waiting[:number]), waiting[number:]
        if number > 1:
            text = seal_alike(
                first,
                events=ids_if_shared([each.event for each in some.values()]),
                sent=[each.event.sent for each in some.values()],
                senders=[each.sender for each in some.values()],
                arguments=[each.kwargs for each in some.values()],
            )
            if len(text) <= most:
                yield some, text


def _portions(sealed: Mapping[int, Message]) -> Iterator[Mapping[int, Message]]:
    """Yield as many of *sealed* after the other as one bundle may stand for."""
    portion: dict[int, Message] = {}
    size, length = 0, 0
    for place, message in sealed.items():
        # The names of their arguments stand once, too.
        apart = APART + sum(map(len, message.envelopes[0].kwargs))
        own = len(message.sealed) + apart * message.size
        if portion and (size + message.size > MOST or length + own > MOST_TEXT):
            yield portion
            portion, size, length = {}, 0, 0
        portion[place] = message
        size += message.size
        length += own
    if portion:
        yield portion
