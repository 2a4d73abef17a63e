"""What is published: envelopes of one receiver, packed where the signal is sent."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from .conf import get_settings
from .envelope import Envelope, pack
from .exceptions import MessageTooLargeError

if TYPE_CHECKING:
    from .registry import Receiver

__all__ = ["Message"]


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One or more envelopes of one receiver, which travel together."""

    receiver: Receiver
    envelopes: tuple[Envelope, ...]
    wire: str  #: The packed envelopes, ASCII.

    @classmethod
    def of(cls, receiver: Receiver, *envelopes: Envelope) -> Message:
        """
        Return the message of *envelopes*.

        Raises:
            MessageTooLargeError: Its wire form has more than ``MAX_MESSAGE_SIZE`` bytes.
        """
        wire = pack(envelopes)
        limit = get_settings().max_message_size
        if len(wire) > limit:
            sizes = {
                name: len(json.dumps(value))
                for envelope in envelopes
                for name, value in {"sender": envelope.sender, **envelope.kwargs}.items()
            }
            largest = max(sizes, key=sizes.__getitem__)
            raise MessageTooLargeError(receiver.name, largest, sizes[largest], len(wire), limit)
        return cls(receiver, envelopes, wire)
