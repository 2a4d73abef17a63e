"""
The message that travels from the sending process to the worker.

An envelope is plain data: JSON in, JSON out. Its wire form carries a version, because a
message outlives the deployment that wrote it, and a signature over the whole, which is
verified before anything in it is parsed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
import json
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..delivery import Delivery
from ..exceptions import EnvelopeError, FutureEnvelopeError
from ..ids import id_after, new_id
from .encryption import decrypted, encrypted
from .signing import sign, verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "APART",
    "READABLE_VERSIONS",
    "WIRE_VERSION",
    "Envelope",
    "Reference",
    "as_sent",
    "bundled",
    "dump",
    "load",
    "pack",
    "reseal",
    "seal",
    "seal_alike",
    "unbundled",
    "unpack",
    "unpack_to_keep",
]

WIRE_VERSION = 1  # Raise it when a field is renamed or changes meaning.
READABLE_VERSIONS = frozenset({1})

#: Of a line of a bundle in which more stands once for all: only the ledger has such.
ALIKE_VERSION = 2
#: Characters that a message of one delivery has more than such a line with this one, at most: its
#: ids, a moment, a signature, and ``SHARED`` of arguments that all have in common.
SHARED, APART = 100, 250
#: Characters of an id.
ID = 36

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class Envelope(NamedTuple):  # One is made for each event: a frozen dataclass takes longer.
    """One delivery: one event on its way to one receiver."""

    #: The delivery's; attempts of one delivery share it. ``""``: whoever unpacks its bundle gives
    #: it one.
    id: str
    event_id: str  #: The event's; the deliveries of one event share it.
    receiver: str  #: Name of the receiver.
    signal: str | None  #: Import path of the signal; None: it has none.
    sent: str  #: When the signal was sent: ISO 8601, with an offset.
    sender: Any  #: The sender, as JSON.
    kwargs: dict[str, Any]  #: The other arguments, each as JSON.
    payload_version: int = 1  #: Of the sender's receiver: what its kwargs look like.
    cause: str | None = None  #: Id of the delivery whose receiver sent it; None: no receiver did.
    chain: tuple[str, ...] = ()  #: The receivers that caused each other up to here.
    replay: bool = False  #: A person has asked for it.

    @property
    def sent_at(self) -> dt.datetime:
        """When the signal was sent: aware."""
        return dt.datetime.fromisoformat(self.sent)

    def as_delivery(self, *, attempt: int) -> Delivery:
        """Return what receivers and signals are told about it."""
        return Delivery(
            id=self.id,
            event_id=self.event_id,
            receiver=self.receiver,
            attempt=attempt,
            sent_at=self.sent_at,
            replay=self.replay,
            chain=self.chain,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A delivery that stays in the ledger: what travels says only which one."""

    id: str  #: The delivery's.
    receiver: str  #: Name of the receiver.
    epoch: int  #: The delivery's when it was published: of two messages, one can claim it.
    using: str  #: Alias of the database that has it.
    ordered: bool = False  #: It has a turn: others may have to be done before it.


def pack(deliveries: Sequence[Envelope] | Sequence[Reference]) -> str:
    """Return the wire form of one or more deliveries of one receiver, in ASCII."""
    return sign(seal(deliveries))


def seal(deliveries: Sequence[Envelope] | Sequence[Reference]) -> str:
    """Return what ``pack()`` signs: ASCII, encrypted where there are keys."""
    packed = [_packed(delivery) for delivery in deliveries]
    common = {"v": WIRE_VERSION, "receiver": deliveries[0].receiver, **_taken_out(packed)}
    return encrypted(_encode(common | {"deliveries": packed}))


def seal_alike(
    first: Envelope,
    *,
    alone: int,
    events: Sequence[str],
    sent: Sequence[int],
    senders: Sequence[Any],
    arguments: Sequence[dict[str, Any]],
) -> tuple[str, int]:
    """
    Seal what differs from *first* in no more than its event, time, sender and arguments.

    Written by columns, since what stands in one is much alike, and what is the very same in all
    stands once: of many saves nearly all there is.

    Args:
        first: Of a bundle: with no id.
        alone: Characters that ``seal()`` makes of it by itself.
        events: Id of the event of each; ``""``: whoever reads it gives it one.
        sent: When each was sent, in microseconds since 1970.
        senders: The sender of each, as JSON.
        arguments: The kwargs of each, as JSON, under the same names.

    Returns:
        The text, and how many characters its deliveries have, each by itself; encrypted, about.
    """
    columns = {name: [*map(operator.itemgetter(name), arguments)] for name in first.kwargs}
    shared = _shared(columns)
    own = {name: column for name, column in columns.items() if name not in shared}
    message = {
        "v": ALIKE_VERSION,
        "receiver": first.receiver,
        "id": first.id,
        "signal": first.signal,
        **({"sender": senders[0]} if _are_one(senders) else {"senders": senders}),
        **_rest(first),
        "sent": sent,
        "events": events,
        "base": new_id(),
        "shared": shared,
        "kwargs": own,
    }
    text = encrypted(_encode(message))
    # All that the first has is in each of them, but for its own arguments: those are in the text.
    apart = alone + ID - len(_encode([column[0] for column in own.values()]))
    return text, len(text) + len(sent) * apart


def _shared(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return those arguments that are the very same object in all: as many as are short."""
    shared: dict[str, Any] = {}
    size = 0
    for name, column in columns.items():
        value = column[0]
        if (value is None or type(value) in (bool, str)) and _are_one(column):
            longer = size + len(name) + len(_encode(value))
            if longer <= SHARED:
                shared[name], size = value, longer
    return shared


def _are_one(column: Sequence[Any]) -> bool:
    """Whether all are the very same object: what is equal only need not be the same JSON."""
    return all(map(operator.is_, column, itertools.repeat(column[0])))


def unpack(wire: object) -> list[Envelope | Reference]:
    """
    Read what ``pack()`` wrote, in this release or an earlier one.

    Raises:
        EnvelopeError: *wire* is malformed, signed or encrypted with none of this process's
            keys, or of a version that this release cannot read.
    """
    return _read(_opened(wire), "message")


def unpack_to_keep(wire: object) -> list[tuple[Envelope | Reference, str]]:
    """Read as ``unpack()`` does, what travels whole with the form in which the ledger keeps it."""
    body = _opened(wire)
    deliveries = _read(body, "message")
    if len(deliveries) == 1 and isinstance(deliveries[0], Envelope):  # Most: kept as they came.
        return [(deliveries[0], encrypted(body))]
    return [(each, dump(each) if isinstance(each, Envelope) else "") for each in deliveries]


def reseal(wire: str) -> str:
    """
    Return a message of one delivery, signed but perhaps not readable yet, as the ledger keeps it.

    Raises:
        EnvelopeError: It is signed or encrypted with none of this process's keys.
    """
    return encrypted(_opened(wire))


def _opened(wire: object) -> str:
    """Return the JSON of a message; raises EnvelopeError for what this process has no key to."""
    if not isinstance(wire, str):
        raise EnvelopeError(
            f"cannot read the message: expected a signed text, got: {type(wire).__name__}. "
            "Only async_signals publishes to the task of a receiver; call the function itself, "
            "or send its signal."
        )
    return decrypted(verified(wire))


def dump(envelope: Envelope) -> str:
    """Return the form in which the ledger keeps *envelope*: ASCII, encrypted, not signed."""
    return seal([envelope])


def load(text: str) -> Envelope:
    """
    Read what ``dump()`` wrote, in this release or an earlier one.

    Raises:
        EnvelopeError: As ``unpack()``.
    """
    return unbundled(text, 1)[0]


def bundled(texts: Iterable[str]) -> str:
    """Return what the ledger keeps of a bundle: what ``seal()`` wrote of some of it, in lines."""
    return "\n".join(texts)  # Which is in none of them.


def unbundled(text: str, size: int) -> list[Envelope]:
    """
    Read the *size* deliveries of a bundle, or the only one; raises as ``load()``.

    Those of a bundle get their ids here, others at each reading, in their order: nobody knows of
    them before they are in rows of the ledger. An event that has none gets the same at each,
    counted from an id that its line has for this: who reads a bundle twice sends no event twice.
    """
    versions = READABLE_VERSIONS | {ALIKE_VERSION}
    read = [
        each
        for line in text.split("\n")
        for each in _read(decrypted(line), "stored envelope", versions)
    ]
    found = [each for each in read if isinstance(each, Envelope)]
    if len(found) != size:
        raise EnvelopeError(
            f"cannot read the stored envelope: expected deliveries: {size}, got: {len(found)}. "
            "Discard the delivery, or restore its row."
        )
    return found if size == 1 else [each._replace(id=new_id()) for each in found]


#: What may stand once where all deliveries of a message, or of a line, have it in common.
_COMMON = ("id", "event", "signal", "sender")
#: What ``_rest()`` has of one delivery, and a line that is written by columns has of all.
_ONCE = ("payload", "cause", "chain", "replay")


def _taken_out(packed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Remove from *packed* what all have in common, and return it."""
    common: dict[str, Any] = {}
    if len(packed) == 1:
        return common
    for name in ("signal", "sender"):
        values = [each[name] for each in packed if name in each]
        if values and _is_exact(values[0]) and values.count(values[0]) == len(packed):
            common[name] = values[0]
            for each in packed:
                del each[name]
    return common


def _is_exact(value: Any) -> bool:
    """Whether all that equals *value*, a signal or a sender, is the same: 1 equals True."""
    return (
        value is None or type(value) is str or (type(value) is dict and value.get("$") == "class")
    )


def _packed(delivery: Envelope | Reference) -> dict[str, Any]:
    if isinstance(delivery, Reference):
        place = {"id": delivery.id, "epoch": delivery.epoch, "using": delivery.using}
        return place | {"ordered": True} if delivery.ordered else place
    packed = {
        "id": delivery.id,
        "event": delivery.event_id,
        "signal": delivery.signal,
        "sent_at": delivery.sent,
        "sender": delivery.sender,
        "kwargs": delivery.kwargs,
    }
    return packed | _rest(delivery)


def _rest(envelope: Envelope) -> dict[str, Any]:
    """Return what most deliveries do not have."""
    rest: dict[str, Any] = {}
    if envelope.payload_version != 1:
        rest["payload"] = envelope.payload_version
    if envelope.cause is not None:
        rest |= {"cause": envelope.cause, "chain": envelope.chain}
    if envelope.replay:
        rest["replay"] = True
    return rest


def _read(
    body: str, what: str, versions: frozenset[int] = READABLE_VERSIONS
) -> list[Envelope | Reference]:
    try:
        message = json.loads(body)
        version = message["v"]
        if version not in versions or type(version) is not int:  # True and 1.0 equal 1.
            raise FutureEnvelopeError(
                f"cannot read envelope version {version!r}: expected one of "
                f"{sorted(versions)}. Deploy workers before senders."
            )
        receiver = message["receiver"]
        deliveries = _rows(message) if version == ALIKE_VERSION else message["deliveries"]
        common = {name: message[name] for name in _COMMON if name in message}
        if not deliveries:  # Its task would succeed with nothing done.
            raise ValueError  # noqa: TRY301
        return [_unpacked(receiver, common | delivery) for delivery in deliveries]
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        # The kind of fault only: what it quotes may be data that a log must not hold.
        raise EnvelopeError(
            f"cannot read the {what}: expected an envelope of version {WIRE_VERSION}, got: "
            f"JSON that raises {type(exc).__name__}. Deploy workers before senders."
        ) from None


def _rows(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deliveries of what ``seal_alike()`` has written as a message has them."""
    sent, kwargs, shared = message["sent"], message["kwargs"], message["shared"]
    events, base = message["events"], message["base"]
    senders = message["senders"] if "senders" in message else [message["sender"]] * len(sent)
    if type(kwargs) is not dict:
        raise TypeError
    columns = sent, events, senders, *kwargs.values()
    if {*map(type, columns)} != {list} or {*map(type, sent)} != {int}:  # True is none.
        raise TypeError
    own = zip(*kwargs.values(), strict=True) if kwargs else [()] * len(sent)
    once = {name: message[name] for name in _ONCE if name in message}
    return [
        {
            **once,
            "event": id_after(base, place) if event == "" else event,
            "sent_at": as_sent(at),
            "sender": sender,
            "kwargs": shared | dict(zip(kwargs, values, strict=True)),
        }
        for place, (event, at, sender, values) in enumerate(
            zip(events, sent, senders, own, strict=True)
        )
    ]


def _unpacked(receiver: str, delivery: dict[str, Any]) -> Envelope | Reference:
    if "epoch" in delivery:
        ordered = delivery.get("ordered", False)
        values = delivery["id"], delivery["epoch"], delivery["using"], ordered
        if tuple(map(type, values)) != (str, int, str, bool):
            raise TypeError
        return Reference(
            id=delivery["id"],
            receiver=receiver,
            epoch=delivery["epoch"],
            using=delivery["using"],
            ordered=ordered,
        )
    return _checked(
        Envelope(
            id=delivery["id"],
            event_id=delivery["event"],
            receiver=receiver,
            signal=delivery["signal"],
            sent=delivery["sent_at"],
            sender=delivery["sender"],
            kwargs=delivery["kwargs"],
            payload_version=_positive(delivery.get("payload", 1)),
            cause=delivery.get("cause"),
            chain=tuple(delivery.get("chain", ())),
            replay=delivery.get("replay", False),
        )
    )


def as_sent(microseconds: int) -> str:
    """Return *microseconds* since 1970 as an envelope has them."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}+00:00"


@functools.lru_cache(maxsize=16)  # Many events are of one second, and this takes long.
def _second(seconds: int) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OSError, OverflowError) as exc:  # What the platform's clock cannot be.
        raise ValueError(seconds) from exc


#: What the receiver is called with beside its arguments, and the name of a tag.
_RESERVED = frozenset({"sender", "signal", "$"})


def _checked(envelope: Envelope) -> Envelope:
    """Return *envelope*; raises TypeError or ValueError where no receiver can be called with it."""
    texts = {type(envelope.id), type(envelope.event_id), type(envelope.receiver)}
    if texts != {str} or type(envelope.signal) not in (str, type(None)):
        raise TypeError
    if type(envelope.kwargs) is not dict or type(envelope.replay) is not bool:
        raise TypeError
    if not {type(name) for name in (envelope.cause or "", *envelope.chain)} <= {str}:
        raise TypeError
    if envelope.sent_at.tzinfo is None or not _RESERVED.isdisjoint(envelope.kwargs):
        raise ValueError
    return envelope


def _positive(number: object) -> int:
    if type(number) is not int or number < 1:
        raise ValueError
    return number
