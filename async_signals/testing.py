"""
Deliveries in the tests of a site: run at once, or captured.

Both go through the real encoding, signature and decoding, so that what works here works
through a broker.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .executor import execute
from .outcomes import run_each
from .sending.outlet import outlet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .wire.envelope import Envelope
    from .wire.message import Message

__all__ = ["capture", "run_inline"]


@contextlib.contextmanager
def run_inline() -> Iterator[None]:
    """
    Run each delivery in this process when it would be published.

    What a receiver raises is raised where it was published from: by ``send()``, or by the end
    of ``atomic()``, as an ``ExceptionGroup`` where several failed. Inside ``TestCase`` nothing
    commits: use ``captureOnCommitCallbacks(execute=True)`` within.
    """

    def run(messages: Sequence[Message]) -> None:
        run_each(lambda message: execute(message.wire, name=message.receiver.name), messages)

    token = outlet.set(run)
    try:
        yield
    finally:
        outlet.reset(token)


@contextlib.contextmanager
def capture() -> Iterator[list[Envelope]]:
    """Collect the envelopes that would be published, in their order, and publish none."""
    envelopes: list[Envelope] = []

    def collect(messages: Sequence[Message]) -> None:
        envelopes.extend(envelope for message in messages for envelope in message.envelopes)

    token = outlet.set(collect)
    try:
        yield envelopes
    finally:
        outlet.reset(token)
