"""What people see of a delivery: its arguments without what is secret, and its signal's name."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from .. import registry
from ..exceptions import ReceiverNotFoundError
from ..signal_paths import paths_of, signal_at
from .keys import labels_in, with_keys
from .masking import mask_for

if TYPE_CHECKING:
    from ..wire.envelope import Envelope
    from .masking import Mask

__all__ = ["hides_key", "hides_sender", "mask_of", "payload_of", "readable", "signal_label"]


def mask_of(envelope: Envelope) -> Mask | None:
    """Return what hides what nobody may see; None where the receiver is not here to say."""
    names = _names_of(envelope)
    # Most have no secret key: what their names say is all, and the same for each event.
    if names is None or not any(_hides(names, label) for label in labels_in(envelope.kwargs)):
        return names
    return _with_values(envelope, None)


def _names_of(envelope: Envelope) -> Mask | None:
    try:
        sensitive = registry.get(envelope.receiver).options.sensitive
    except ReceiverNotFoundError:
        return None
    return mask_for(sensitive, None, None)


@functools.lru_cache(maxsize=1024)
def _hides(names: Mask, label: str) -> bool:
    return names.hides_key(label)


def hides_key(envelope: Envelope, label: str) -> bool:
    """Whether the key of the instance, of the model labelled *label*, is secret by its names."""
    names = _names_of(envelope) or mask_for((), None, None)
    return names.is_sensitive("instance") or _hides(names, label)


def hides_sender(envelope: Envelope) -> bool:
    """Whether the sender is secret: data, where it is no class and no function."""
    if not isinstance(envelope.sender, (str, int)):
        return False
    return (_names_of(envelope) or mask_for((), None, None)).is_sensitive("sender")


def payload_of(envelope: Envelope, mask: Mask) -> str:
    """Return what people see of the arguments: JSON, masked."""
    data = {"sender": envelope.sender, **envelope.kwargs}
    text = json.dumps(data)
    knows_names_only = mask is _names_of(envelope)
    # Where it does, mask_of() has looked at the keys in the arguments.
    labels = labels_in(envelope.sender if knows_names_only else data)
    if mask.leaves_alone(text) and not any(_hides(mask, label) for label in labels):
        return text
    if knows_names_only:  # What has a secret name may stand in another text, too.
        mask = _with_values(envelope, envelope.kwargs)
    return json.dumps(mask.view(data))


def _with_values(envelope: Envelope, known: dict[str, Any] | None) -> Mask:
    """Return what also hides the values behind secret names, of keys and in *known*."""
    sensitive = registry.get(envelope.receiver).options.sensitive
    return mask_for(sensitive, with_keys(known, envelope.kwargs), None)


def readable(payload: str) -> str:
    """Return a payload with indents, and with letters for their escapes; no JSON: as it is."""
    try:
        pretty = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
        pretty.encode()  # A lone surrogate cannot be shown; its escape can.
    except (ValueError, RecursionError):
        return payload
    return pretty


def signal_label(envelope: Envelope) -> str:
    """Return the best path of the signal: one for all receivers, however each has imported it."""
    signal = signal_at(envelope.signal) if envelope.signal is not None else None
    paths = paths_of(signal) if signal is not None else []
    return (paths[0] if paths else envelope.signal or "")[:255]
