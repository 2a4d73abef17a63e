"""
What happens to deliveries, announced as ordinary Django signals.

Each is sent with ``send_robust``, in the process where it happens, with the receiver's function
as ``sender``; None where that process does not know it. All carry ``delivery``, a ``Delivery``;
all but the first one ``using``, the alias of the database that has it, and ``fingerprint``, that
of the failure before, or empty. What else, stands beside each. An asynchronous receiver gets all
but ``exception``.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = [
    "delivery_discarded",
    "delivery_failed",
    "delivery_published",
    "delivery_retrying",
    "delivery_succeeded",
]

#: The broker has taken it.
delivery_published = Signal()
#: The receiver returned. ``duration``: seconds.
delivery_succeeded = Signal()
#: An attempt failed, another follows. ``exception``; ``failure``: the same, masked; ``wait``:
#: seconds until then, at least.
delivery_retrying = Signal()
#: It failed for good and waits for a person. ``exception``: what its attempt raised; None where
#: its workers died, or no worker had it. ``failure``: as above.
delivery_failed = Signal()
#: A person gave it up, or it expired. ``reason``: a text.
delivery_discarded = Signal()
