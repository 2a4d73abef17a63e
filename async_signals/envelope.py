"""
The message that travels from the sending process to the worker.

An envelope is plain data: JSON in, JSON out. Its wire form carries a version, because a
message outlives the deployment that wrote it, and a signature over the whole, which is
verified before anything in it is parsed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from .encryption import decrypted, encrypted
from .exceptions import EnvelopeError
from .signing import sign, verified

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["READABLE_VERSIONS", "WIRE_VERSION", "Envelope", "pack", "unpack"]

WIRE_VERSION = 1  # Raise it when a field is renamed or changes meaning.
READABLE_VERSIONS = frozenset({1})

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One delivery: one event on its way to one receiver."""

    id: str  #: The delivery's; attempts of one delivery share it.
    event_id: str  #: The event's; the deliveries of one event share it.
    receiver: str  #: Name of the receiver.
    signal: str | None  #: Import path of the signal; None: it has none.
    sent_at: dt.datetime  #: Aware, UTC: when the signal was sent.
    sender: Any  #: The sender, as JSON.
    kwargs: dict[str, Any]  #: The other arguments, each as JSON.
    payload_version: int = 1  #: Of the sender's receiver: what its kwargs look like.


def pack(envelopes: Sequence[Envelope]) -> str:
    """Return the wire form of one or more envelopes of one receiver, in ASCII."""
    body = _encode(
        {
            "v": WIRE_VERSION,
            "receiver": envelopes[0].receiver,
            "deliveries": [_packed(envelope) for envelope in envelopes],
        }
    )
    return sign(encrypted(body))


def _packed(envelope: Envelope) -> dict[str, Any]:
    delivery = {
        "id": envelope.id,
        "event": envelope.event_id,
        "signal": envelope.signal,
        "sent_at": envelope.sent_at.isoformat(),
        "sender": envelope.sender,
        "kwargs": envelope.kwargs,
    }
    if envelope.payload_version != 1:
        delivery["payload"] = envelope.payload_version
    return delivery


def unpack(wire: object) -> list[Envelope]:
    """
    Read what ``pack()`` wrote, in this release or an earlier one.

    Raises:
        EnvelopeError: *wire* is malformed, signed or encrypted with none of this process's
            keys, or of a version that this release cannot read.
    """
    if not isinstance(wire, str):
        raise EnvelopeError(
            f"cannot read the message: expected a signed text, got: {type(wire).__name__}. "
            "Only async_signals publishes to the task of a receiver; call the function itself, "
            "or send its signal."
        )
    body = decrypted(verified(wire))
    try:
        message = json.loads(body)
        version = message["v"]
        if version not in READABLE_VERSIONS:
            raise EnvelopeError(
                f"cannot read envelope version {version!r}: expected one of "
                f"{sorted(READABLE_VERSIONS)}. Deploy workers before senders."
            )
        return [
            Envelope(
                id=delivery["id"],
                event_id=delivery["event"],
                receiver=message["receiver"],
                signal=delivery["signal"],
                sent_at=dt.datetime.fromisoformat(delivery["sent_at"]),
                sender=delivery["sender"],
                kwargs=delivery["kwargs"],
                payload_version=_positive(delivery.get("payload", 1)),
            )
            for delivery in message["deliveries"]
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        # The kind of fault only: what it quotes may be data that a log must not hold.
        raise EnvelopeError(
            f"cannot read the message: expected an envelope of version {WIRE_VERSION}, got: "
            f"JSON that raises {type(exc).__name__}. Deploy workers before senders."
        ) from None


def _positive(number: object) -> int:
    if type(number) is not int or number < 1:
        raise ValueError
    return number
