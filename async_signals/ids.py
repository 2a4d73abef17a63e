"""Ids of events, deliveries and operations."""

from __future__ import annotations

import os
import random
import time
import uuid

__all__ = ["id_after", "new_id"]


#: Ticks in a millisecond, which the 12 bits behind it count, and in a second.
_MILLISECOND, _SECOND = 1 << 12, 1000 << 12

#: The last tick for which this process has made an id.
_last = 0

#: Our own, which no site seeds; several times as fast as asking the system for each id.
_random = random.Random()  # noqa: S311  (an id is no secret)
#: The process that has seeded it: a child must not go on with the numbers of its parent, whoever
#: has forked it. Servers written in C may do so without a word to Python.
_seeded_by = os.getpid()


def new_id() -> str:
    """
    Return an id that sorts by the time of its making; those of one thread always by their order.

    A clock that is set back by more than a second is believed.

    Source:
        UUID version 7, RFC 9562 sections 5.7 and 6.2, method 3; the standard library has it from
        3.14 on.
    """
    global _last, _seeded_by  # noqa: PLW0603
    if os.getpid() != _seeded_by:
        _random.seed()
        _seeded_by = os.getpid()
    tick = time.time_ns() * _MILLISECOND // 1_000_000
    if 0 <= _last - tick < _SECOND:
        tick = _last + 1
    _last = tick
    upper = tick >> 12 << 16 | 0x7000 | tick & 0xFFF
    octets = (upper << 64 | 0b10 << 62 | _random.getrandbits(62)).to_bytes(16, "big")
    return f"{octets[:4].hex()}-{octets[4:10].hex('-', 2)}-{octets[10:].hex()}"


def id_after(id: str, number: int) -> str:  # noqa: A002
    """Return the id that is *number* places behind *id*, always the same; raises ValueError."""
    return str(uuid.UUID(int=uuid.UUID(id).int + number))
