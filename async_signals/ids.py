"""Ids of events, deliveries and operations."""

from __future__ import annotations

import os
import time

__all__ = ["new_id"]


#: Ticks in a millisecond, which the 12 bits behind it count, and in a second.
_MILLISECOND, _SECOND = 1 << 12, 1000 << 12

#: The last tick for which this process has made an id.
_last = 0


def new_id() -> str:
    """
    Return an id that sorts by the time of its making; those of one thread always by their order.

    A clock that is set back by more than a second is believed.

    Source:
        UUID version 7, RFC 9562 sections 5.7 and 6.2, method 3; the standard library has it from
        3.14 on.
    """
    global _last  # noqa: PLW0603
    tick = time.time_ns() * _MILLISECOND // 1_000_000
    if 0 <= _last - tick < _SECOND:
        tick = _last + 1
    _last = tick
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
