"""What is published: envelopes of one receiver, packed where the signal is sent."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, cast

from ..conf import get_settings
from ..exceptions import MessageTooLargeError
from ..ids import new_id
from .envelope import Envelope, Reference, seal
from .signing import SIGNATURE, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..registry import Receiver

__all__ = ["Message"]


@dataclasses.dataclass(slots=True, eq=False)
class Message:
    """One or more deliveries of one receiver, which travel together."""

    receiver: Receiver
    _deliveries: tuple[Envelope, ...] | tuple[Reference, ...]
    signal: str | None = None  #: Path of that of those that travel whole; None: it has none.
    order: str | None = None  #: Those with this key run one after the other; None: at any time.
    unique: str | None = None  #: Sent only if nobody has this key; None: anyhow.
    stored: str | None = None  #: Alias of the ledger that has them already; None: none has.
    size: int = 1  #: Deliveries that each of them stands for, in the ledger; see ``bundle()``.
    sealed: str = ""  #: Its text, once it is written.
    length: int = 0  #: Of a bundle: characters of its deliveries, each by itself.

    @property
    def deliveries(self) -> tuple[Envelope, ...] | tuple[Reference, ...]:
        """What travels in it."""
        return self._deliveries

    @property
    def text(self) -> str:
        """The sealed deliveries, as the ledger keeps one of them: ASCII, not signed."""
        return self.sealed or self.seal().sealed

    @property
    def wire(self) -> str:
        """What is published: as ``pack()`` has it."""
        return sign(self.text)

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """The deliveries that travel whole."""
        deliveries = self.deliveries
        is_reference = isinstance(deliveries[0], Reference)
        return () if is_reference else cast("tuple[Envelope, ...]", deliveries)

    @property
    def is_reference(self) -> bool:
        """Whether the deliveries themselves stay in the ledger."""
        return isinstance(self.deliveries[0], Reference)

    @classmethod
    def to(cls, receiver: Receiver, *references: Reference) -> Message:
        """Return the message that tells of deliveries in the ledger."""
        return cls(receiver, references)

    @classmethod
    def bundle(cls, messages: Sequence[Message], text: str, *, length: int) -> Message:
        """
        Return one for the ledger that stands for *messages*, of one receiver and signal each.

        Args:
            messages: Whole ones, or bundles.
            text: All of their deliveries, as ``bundled()`` has them.
            length: Characters that these have, each by itself.
        """
        first = messages[0]
        return cls(
            first.receiver,
            (first.envelopes[0]._replace(id=new_id()),),
            signal=first.signal,
            stored=first.stored,
            size=sum([message.size for message in messages]),
            sealed=text,
            length=length,
        )

    def seal(self) -> Message:
        """
        Write the text now, and not when somebody asks for it; return the message.

        Raises:
            MessageTooLargeError: Its wire form has more than ``MAX_MESSAGE_SIZE`` bytes.
        """
        if not self.sealed:
            text = seal(self.deliveries)
            self._check(len(text))
            self.sealed = text
        return self

    def _check(self, length: int) -> None:
        settings = get_settings()
        limit = settings.max_message_size
        length += SIGNATURE if settings.signing else 1
        if length <= limit or self.is_reference:
            return
        size, largest = max(
            (len(json.dumps(value, separators=(",", ":"))), name)  # As seal() writes it.
            for envelope in self.envelopes
            for name, value in {"sender": envelope.sender, **envelope.kwargs}.items()
        )
        raise MessageTooLargeError(self.receiver.name, largest, size, length, limit)
