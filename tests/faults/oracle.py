"""What was sent, what became of it, and what must not have."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from async_signals import testing
from async_signals.models import Delivery
from tests.testapp import effects
from tests.testapp.models import Applied, Sent

from .scale import IS_FULL, scaled
from .waiting import USUALLY, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django.dispatch import Signal

__all__ = ["MODES", "Run", "Tally", "captured", "kept", "let_time_pass", "lines", "wait_until"]

#: The alias of the database that has the ledger, and what is committed.
USING = "postgresql"

#: By mode, the signal whose receiver is in it.
MODES: dict[str, Signal] = {
    "by_hand": effects.by_hand_happened,
    "plain": effects.plain_happened,
    "robust": effects.robust_happened,
    "durable": effects.durable_happened,
    "once": effects.once_happened,
}

#: One for each run of this session, in their order.
lines: list[str] = []


class UndoneError(Exception):
    """Rolls a transaction back."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a run came to."""

    committed: int
    delivered: int
    lost: int  #: Committed, and never delivered.
    twice: int  #: Effects beyond the first one of each event.
    rolled_back: int  #: Delivered, although the transaction was undone.
    stall: float  #: Seconds: the longest time in which nothing was delivered.

    def __str__(self) -> str:
        return (
            f"committed {self.committed}, delivered {self.delivered}, lost {self.lost}, applied "
            f"twice {self.twice}, delivered though rolled back {self.rolled_back}, longest stall "
            f"{self.stall:.1f} s"
        )


class Run:
    """One run of events that are numbered, and what is known of each."""

    def __init__(
        self,
        name: str,
        mode: str,
        *,
        id: str | None = None,  # noqa: A002
        using: str = USING,
    ) -> None:
        self.name = name
        self.mode = mode
        self.id = id or uuid.uuid4().hex
        self.using = using  #: The database that knows what was committed.
        self.signal = MODES.get(mode) or getattr(effects, f"{mode}_happened")
        self.started = time.monotonic()
        self.slowest = 0.0  #: Seconds of the slowest send, its commit included.
        #: What was read of the receivers' file so far, and how many bytes of it.
        self._entries: list[dict] = []
        self._length = 0

    def send(
        self,
        numbers: Iterable[int],
        *,
        orders: Sequence[str] | Callable[[int], Sequence[str]] = (),
        together: bool = False,
    ) -> None:
        """Send, each in a transaction of its own that also writes down that it was sent."""
        with transaction.atomic(using=self.using) if together else contextlib.nullcontext():
            for number in numbers:
                started = time.monotonic()
                with transaction.atomic(using=self.using):
                    self._send(number, orders(number) if callable(orders) else orders)
                self.slowest = max(self.slowest, time.monotonic() - started)

    def send_and_undo(self, numbers: Iterable[int]) -> None:
        """Send in transactions that are rolled back."""
        for number in numbers:
            with contextlib.suppress(UndoneError), transaction.atomic(using=self.using):
                self._send(number, ())
                raise UndoneError

    def send_at_once(self, numbers: Sequence[int]) -> None:
        """Send in one transaction that does little else: one statement writes all *numbers*."""
        with transaction.atomic(using=self.using):
            rows = [Sent(run=self.id, number=number) for number in numbers]
            Sent.objects.using(self.using).bulk_create(rows)
            for number in numbers:
                self._signal(number, ())

    def send_outside(self, numbers: Iterable[int]) -> None:
        """Send in autocommit, after the row is committed."""
        for number in numbers:
            Sent.objects.using(self.using).create(run=self.id, number=number)
            started = time.monotonic()
            self._signal(number, ())
            self.slowest = max(self.slowest, time.monotonic() - started)

    def _send(self, number: int, orders: Sequence[str]) -> None:
        Sent.objects.using(self.using).create(run=self.id, number=number)
        self._signal(number, orders)

    def _signal(self, number: int, orders: Sequence[str]) -> None:
        arguments = {"orders": list(orders)} if orders else {}
        self.signal.send(sender=None, run=self.id, number=number, using=self.using, **arguments)

    @property
    def _path(self) -> Path:
        return Path(os.environ["ASYNC_SIGNALS_TEST_FOLDER"]) / f"effects-{self.id}"

    def written(self, what: str) -> list[dict]:
        """Return the lines that receivers have written: "start" or "effect"."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._length)
                text, newline, _ = file.read().rpartition(b"\n")  # The rest is being written.
            self._length += len(text) + len(newline)
            # What does not end so was being written when its process was killed.
            self._entries += [json.loads(line) for line in text.split(b"\n") if line[-1:] == b"}"]
        return [entry for entry in self._entries if entry["what"] == what]

    def effects(self) -> list[tuple[int, float]]:
        """Return number and time of each effect: of the rows, where effects happen once."""
        if self.mode.endswith("once"):
            rows = Applied.objects.using(self.using).filter(run=self.id)
            return list(rows.values_list("number", "at"))
        return [(entry["number"], entry["at"]) for entry in self.written("effect")]

    @property
    def committed(self) -> set[int]:
        rows = Sent.objects.using(self.using).filter(run=self.id)
        return set(rows.values_list("number", flat=True))

    @property
    def delivered(self) -> set[int]:
        return {number for number, _ in self.effects()}

    @property
    def begun(self) -> set[int]:
        """The events that a receiver was called for."""
        return {entry["number"] for entry in self.written("start")}

    def wait_until_delivered(self, timeout: float = USUALLY) -> None:
        """Return when every committed event has had its effect, or after *timeout* seconds."""
        committed = self.committed
        deadline = time.monotonic() + timeout
        while committed - self.delivered and time.monotonic() < deadline:
            time.sleep(scaled(0.05, 1))

    def tally(self) -> Tally:
        """Count, and print the line of this run."""
        committed = self.committed
        effects = self.effects()
        counts = collections.Counter(number for number, _ in effects)
        times = [self.started, *sorted(at for _, at in effects)]
        tally = Tally(
            committed=len(committed),
            delivered=len(committed & set(counts)),
            lost=len(committed - set(counts)),
            twice=sum(counts.values()) - len(counts),
            rolled_back=len(set(counts) - committed),
            stall=max((b - a for a, b in itertools.pairwise(times)), default=0.0),
        )
        line = f"{self.name} [{self.mode}]: {tally}"
        lines.append(line)
        print(line)
        return tally


def captured(run: Run, number: int, **arguments):
    """Send what is written down as sent, and keep its envelope from the broker."""
    Sent.objects.using(run.using).create(run=run.id, number=number)
    with testing.capture() as sent:
        run.signal.send(sender=None, run=run.id, number=number, using=run.using, **arguments)
    [envelope] = sent
    return envelope


def kept(told: Callable[[int], list[str]]) -> int:
    """Return how many deliveries the log says are in the ledger until the broker is back."""
    warnings = told(logging.WARNING)
    many = (re.match(r"Kept (\d+) durable", each) for each in warnings)
    one = sum(each.startswith("Kept delivery") for each in warnings)
    return one + sum(int(match[1]) for match in many if match)


def let_time_pass(ledger: str) -> None:
    """Let what was published be due again: at once, or, in the full version, when it is."""
    if not IS_FULL:
        Delivery.objects.using(ledger).filter(state="published").update(due_at=Now())
