"""Deliveries and their events as senders store them: one statement for all of either."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from django.db import connections

from .. import codec
from ..models import Delivery, Event, State
from .clock import CLOCKS
from .inserts import insert, most_rows
from .masking import storable
from .payloads import hides_key, hides_sender, mask_of, payload_of, signal_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..wire.envelope import Envelope

__all__ = ["Outgoing", "insert_events", "insert_outgoing"]

#: Characters of text in one statement: servers bound what they read at once.
MAX_TEXT = 2_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A delivery that is new."""

    envelope: Envelope
    text: str  #: The envelope, as the ledger keeps it.
    wait: float  #: Seconds until a relay publishes it, from now by the database's clock.
    is_leaving: bool  #: Its sender is about to publish it.
    size: int = 1  #: Deliveries that it stands for; *text* has them all.


def insert_outgoing(deliveries: Sequence[Outgoing], using: str) -> None:
    """
    Insert deliveries, and their events where they are not there yet.

    Raises:
        DatabaseError: As any insert; the transaction is to be rolled back.
    """
    insert_events([each.envelope for each in deliveries], using)
    for is_leaving in (True, False):
        some = [each for each in deliveries if each.is_leaving is is_leaving]
        for chunk in _chunks(some, using):
            _insert_deliveries(chunk, using, is_leaving=is_leaving)


def insert_events(envelopes: Iterable[Envelope], using: str) -> None:
    """
    Insert the events of deliveries, where they are not there yet.

    Deliveries of one event share it: whichever is recorded first brings it.
    """
    connection = connections[using]
    rows: dict[str, tuple[Any, ...]] = {}
    hidden: dict[str, set[str]] = {"sender": set(), "instance_pk": set()}
    for each in envelopes:
        label, key = codec.row_label(each.kwargs.get("instance"))
        if key and hides_key(each, label):
            hidden["instance_pk"].add(each.event_id)
        if hides_sender(each):
            hidden["sender"].add(each.event_id)
        rows[each.event_id] = (
            each.event_id,
            signal_label(each),
            storable(codec.sender_label(each.sender))[:255],
            storable(label)[:255],
            storable(key)[:255],
            each.sent_at,
            each.cause,
        )
    columns = {
        "id": "uuid",
        "signal": "text",
        "sender": "text",
        "instance_model": "text",
        "instance_pk": "text",
        "sent_at": "timestamptz",
        "cause": "uuid",
    }
    for place, column in enumerate(columns):
        for pk in hidden.get(column, ()):
            rows[pk] = (*rows[pk][:place], "", *rows[pk][place + 1 :])
    waiting = iter(rows.values())
    while chunk := list(itertools.islice(waiting, most_rows(connection, len(columns)))):
        insert(connection, Event, columns, chunk, ignore_known=True)
    # Another receiver, which does not hide it, may have brought it.
    for column, pks in hidden.items():
        if pks:
            Event._base_manager.using(using).filter(pk__in=pks).update(**{column: ""})


def _insert_deliveries(chunk: Sequence[Outgoing], using: str, *, is_leaving: bool) -> None:
    connection = connections[using]
    now, _ = CLOCKS[connection.vendor]
    columns = {
        "id": "uuid",
        "event_id": "uuid",
        "receiver": "text",
        "signal": "text",
        "sent_at": "timestamptz",
        "envelope": "text",
        "payload": "text",
        "due_at": "seconds",
        "size": "int",
    }
    constants = {
        "state": f"'{State.PUBLISHED if is_leaving else State.PENDING}'",
        "publishes": "1" if is_leaving else "0",
        "published_at": now if is_leaving else "NULL",
    }
    rows = []
    for each in chunk:
        envelope = each.envelope
        mask = mask_of(envelope) if each.size == 1 else None
        rows.append(
            (
                envelope.id,
                envelope.event_id,
                envelope.receiver,
                signal_label(envelope),
                envelope.sent_at,
                each.text,
                "" if mask is None else payload_of(envelope, mask),
                each.wait,
                each.size,
            )
        )
    insert(connection, Delivery, columns, rows, constants)


def _chunks(deliveries: Sequence[Outgoing], using: str) -> Iterator[list[Outgoing]]:
    most = most_rows(connections[using], 9)
    chunk: list[Outgoing] = []
    size = 0
    for each in deliveries:
        # Twice: what people see of it is no longer, but for what is masked.
        length = 2 * len(each.text)
        if chunk and (len(chunk) == most or size + length > MAX_TEXT):
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += length
    if chunk:
        yield chunk
