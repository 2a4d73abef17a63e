"""
Deliveries of one transaction that are about the same thing: one of them is enough.

Nothing is merged at send, because nobody knows yet which events live: each delivery is kept
with what it is about. When the commit publishes those that are alive, the last of each key
stays, at its place, and takes along what only the earlier ones knew of a save.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_delete

from .. import codec
from ..codec.changes import Changes
from ..codec.fields import equal
from ..exceptions import AsyncSignalsError
from ..wire.message import Message

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from django.dispatch import Signal

    from ..registry import Receiver

    Part = tuple[Message, "Subject | None"]

__all__ = ["Subject", "coalesced", "subject_of"]

logger = logging.getLogger("async_signals")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """What ``post_save`` says of one save, or of several of the same row."""

    created: bool
    update_fields: frozenset[str] | None  #: None: all of them.
    changes: Changes | None  #: As ``track_changes`` sends it.

    def then(self, later: Save) -> Save:
        """Return this save and *later* as one."""
        created = self.created or later.created
        named = None
        if self.update_fields is not None and later.update_fields is not None:
            named = self.update_fields | later.update_fields
        return Save(
            created=created,
            update_fields=named,
            changes=Changes({}, []) if created else _joined(self.changes, later.changes),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a delivery is about."""

    key: Hashable  #: Deliveries with equal keys become one.
    row: Hashable  #: The object; not the key where the site has one of its own.
    save: Save | None  #: None: it is not about a save.
    is_end: bool  #: The row is deleted: what comes later is about another one.
    alive: tuple[object, ...]  #: Keeps what is known by its address from going.


def subject_of(
    receiver: Receiver, signal: Signal, sender: object, named: Mapping[str, Any]
) -> Subject | None:
    """
    Return what an event is about, for a receiver with ``coalesce``; None: only about itself.

    Raises:
        TypeError: The function that gives the key has returned one that cannot be hashed.
    """
    instance = named.get("instance")
    row = (id(sender), *_identity(instance, named.get("using")))
    key: Hashable = row
    option = receiver.options.coalesce
    if not isinstance(option, bool):
        own = option(sender, **named)
        if own is None:
            return None
        key = _hashable(own, receiver)
    save = None
    if signal is post_save:
        fields = named.get("update_fields")
        save = Save(
            created=named.get("created", False),
            update_fields=None if fields is None else frozenset(fields),
            changes=named.get("changes") if receiver.options.track_changes else None,
        )
    alive = (sender, None if "row" in row else instance)
    is_end = signal is pre_delete or signal is post_delete
    return Subject(key=(receiver.name, key), row=row, save=save, is_end=is_end, alive=alive)


def coalesced(parts: Iterable[Part]) -> list[Message]:
    """Return the messages to publish for those that live: of each key the last, at its place."""
    parts = list(parts)
    if all(subject is None for _, subject in parts):
        return [message for message, _ in parts]
    groups: dict[Hashable, list[Part]] = {}
    for place, (message, subject) in enumerate(parts):
        key: Hashable = ("alone", place) if subject is None else ("together", subject.key)
        group = groups.pop(key, [])  # Put back behind all others: there the last one is.
        group.append((message, subject))
        groups[key] = group
    messages: list[Message] = []
    for group in groups.values():
        messages += _one_of(group) if len(group) > 1 else [group[0][0]]
    return messages


def _one_of(group: Sequence[Part]) -> list[Message]:
    """Return the one message for all of *group*, or all where that one cannot be made."""
    message, last = group[-1]
    if last is None or last.save is None:
        return [message]
    saves = []
    for _, subject in reversed(group):
        if subject is None or subject.row != last.row:
            continue
        if subject.is_end:
            break
        if subject.save is not None:
            saves.append(subject.save)
    try:
        return [_told(message, last.save, functools.reduce(Save.then, reversed(saves)))]
    except Exception as exc:  # noqa: BLE001  (too large together, or values that cannot compare)
        # What the site's code raises may quote the values that it compared.
        is_ours = isinstance(exc, AsyncSignalsError)
        logger.warning(
            "Cannot make one delivery of %d for %s, each is sent by itself: %s%s",
            len(group),
            message.receiver.name,
            type(exc).__name__,
            f": {exc}" if is_ours else "",
        )
        return [each for each, _ in group]


def _told(message: Message, last: Save, whole: Save) -> Message:
    """Return *message* with what the *whole* says, where that is more than its *last* save."""
    if whole is last:
        return message
    [envelope] = message.envelopes
    options = message.receiver.options
    known: dict[str, Any] = {"created": whole.created, "update_fields": whole.update_fields}
    if options.track_changes:  # What a site's own argument of that name means is not known.
        known["changes"] = whole.changes
    told = {name: value for name, value in known.items() if name in envelope.kwargs}
    encoded = codec.encode(
        told,
        receiver=envelope.receiver,
        instance=options.instance,
        fallback=options.missing == "snapshot",
    )
    kwargs = envelope.kwargs | encoded
    whole_envelope = envelope._replace(kwargs=kwargs)
    whole_message = Message(
        message.receiver, (whole_envelope,), signal=message.signal, unique=message.unique
    )
    return whole_message.seal()


def _joined(earlier: Changes | None, later: Changes | None) -> Changes | None:
    """Return the first old and the last new values, of fields that are not what they were."""
    if earlier is None or later is None:
        return None
    fields = earlier.fields | later.fields
    joined = dict(earlier)
    for name, (old, new) in later.items():
        first = joined.pop(name, (old, new))[0]
        if not equal(fields[name], first, new):
            joined[name] = (first, new)
    return Changes(joined, [fields[name] for name in joined])


def _identity(instance: object, using: object = None) -> tuple[Hashable, ...]:
    """Return what an object is known by: a row by alias and key, all else by its address."""
    if instance is None:
        return ()
    if not isinstance(instance, Model):
        return ("object", id(instance))
    pk = _key_of(instance)
    if pk is None:
        return ("unsaved", id(instance))
    alias = using if isinstance(using, str) else instance._state.db
    return ("row", instance._meta.concrete_model, alias, pk)


def _key_of(instance: Model) -> Hashable:
    """Return the key as the database would give it back: "3" and 3 are the same row."""
    fields = instance._meta.pk_fields  # More than one: composite.
    values = [getattr(instance, field.attname) for field in fields]
    if None in values:
        return None
    try:
        return tuple(field.to_python(value) for field, value in zip(fields, values, strict=True))
    except ValidationError:
        return tuple(values)


def _hashable(key: object, receiver: Receiver) -> Hashable:
    if isinstance(key, Model):
        return _identity(key)
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"cannot coalesce for {receiver.name}: expected a key that can be hashed, got: "
            f"{type(key).__name__}. Return a text, a number or a tuple of them."
        ) from None
    return key
