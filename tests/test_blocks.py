"""Any order of blocks, savepoints, callbacks and events: what is committed leaves, once."""

from __future__ import annotations

import collections
import contextlib
import dataclasses

import pytest
from django.db import connections, transaction
from django.dispatch import Signal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from async_signals.ids import new_id
from async_signals.models import Delivery, Event
from async_signals.sending import bundling, departures
from async_signals.wire.envelope import unbundled
from tests.testapp.models import Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

first, second = SIGNALS = Signal(), Signal()
#: Each with the signals that it hears.
RECEIVERS = {
    "durable": ((0, 1), {"durable": True}),
    "another": ((0,), {"durable": True}),
    "ordered": ((1,), {"durable": True, "order_by": "n"}),
    "later": ((0,), {"durable": True, "countdown": 60}),
    "robust": ((1,), {"robust": True}),
    "plain": ((0,), {}),
}


class Undo(Exception):
    """Rolls a block back, or is what a callback raises."""


@dataclasses.dataclass(frozen=True)
class Send:
    signal: int
    is_large: bool
    times: int


@dataclasses.dataclass(frozen=True)
class Callback:
    robust: bool
    raises: bool


@dataclasses.dataclass(frozen=True)
class Block:
    savepoint: bool
    undone: bool
    steps: list


@dataclasses.dataclass(frozen=True)
class ByHand:
    """A savepoint that a site makes itself, and goes back to so often."""

    steps: list
    undone: int
    again: list  #: Done after each time.


leaves = st.one_of(
    st.builds(
        Send, st.sampled_from([0, 1]), st.sampled_from([False] * 9 + [True]), st.integers(1, 5)
    ),
    st.builds(Callback, st.booleans(), st.booleans()),
)
programs = st.lists(
    st.recursive(
        leaves,
        lambda steps: st.one_of(
            st.builds(Block, st.just(True), st.booleans(), st.lists(steps, max_size=5)),
            st.builds(Block, st.just(False), st.just(False), st.lists(steps, max_size=5)),
            st.builds(
                ByHand,
                st.lists(steps, max_size=4),
                st.integers(0, 2),
                st.lists(leaves, max_size=2),
            ),
        ),
        max_leaves=12,
    ),
    max_size=8,
)


class Site:
    """Runs a program, and writes a row beside each event: the database says what was committed."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.number = 0
        self.large: set[int] = set()
        self.by_hand = False

    def run(self, steps: list, *, undone: bool) -> None:
        with contextlib.suppress(Undo), transaction.atomic(using=self.alias):
            self.do(steps)
            if undone:
                raise Undo

    def do(self, steps: list) -> None:
        for step in steps:
            getattr(self, type(step).__name__.lower())(step)

    def send(self, step: Send) -> None:
        for _ in range(step.times):
            self.number += 1
            if step.is_large:
                self.large.add(self.number)
            Tag.objects.using(self.alias).create(name=f"{step.signal} {self.number}")
            text = "x" * (5_000 if step.is_large else 1)
            with contextlib.suppress(Exception):  # Of the plain receiver, where it is too large.
                SIGNALS[step.signal].send(None, using=self.alias, n=self.number, text=text)

    def callback(self, step: Callback) -> None:
        def call() -> None:
            if step.raises:
                raise Undo

        transaction.on_commit(call, using=self.alias, robust=step.robust)

    def block(self, step: Block) -> None:
        with (
            contextlib.suppress(Undo),
            transaction.atomic(using=self.alias, savepoint=step.savepoint),
        ):
            self.do(step.steps)
            if step.undone:
                raise Undo

    def byhand(self, step: ByHand) -> None:
        made = connections[self.alias].savepoint()
        self.do(step.steps)
        for _ in range(step.undone):
            self.by_hand = True
            transaction.savepoint_rollback(made, using=self.alias)
            self.do(step.again)

    def committed(self, receiver: str) -> list[int]:
        """Return the numbers of the committed events that *receiver* hears."""
        signals, _ = RECEIVERS[receiver]
        tags = Tag.objects.using(self.alias).values_list("name", flat=True)
        found = (name.split() for name in tags)
        return sorted(int(number) for signal, number in found if int(signal) in signals)


@pytest.fixture
def published(monkeypatch):
    """What leaves this process; nothing reaches a broker."""
    messages = []
    place = "async_signals.sending.outbox.publisher.publish"
    monkeypatch.setattr(place, lambda some: messages.extend(some) or [])
    return messages


@pytest.fixture
def names(connect, settings, monkeypatch):
    """The receivers' names, as a message has them; four deliveries are many."""
    settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 3_000}
    monkeypatch.setattr(bundling, "FEW", 3)
    monkeypatch.setattr(bundling, "MOST", 9)
    monkeypatch.setattr(departures, "FEW", 3)
    names = {}
    for name, (signals, options) in RECEIVERS.items():

        def receive(**kwargs) -> None: ...

        unique = f"tests.blocks.{name}.{new_id()}"
        names[unique] = name
        connect([SIGNALS[n] for n in signals], receive, name=unique, weak=False, **options)
    return names


@settings(max_examples=60, suppress_health_check=[*HealthCheck])
@example(program=[Send(0, False, 1), Send(1, True, 1)], undone=False)  # Of each mode, both ends.
@given(program=programs, undone=st.sampled_from([False, False, False, True]))
def test_what_is_committed_leaves_once(ledger, names, published, program, undone) -> None:
    """To each receiver, in every mode; of what is rolled back, nothing does."""
    for model in (Tag, Delivery, Event):
        model.objects.using(ledger).all().delete()
    published.clear()
    site = Site(ledger)
    site.run(program, undone=undone)

    stored, failed = collections.defaultdict(list), collections.Counter()
    rows = {str(row.pk): row for row in Delivery.objects.using(ledger).order_by("pk")}
    for row in rows.values():
        if row.state == "failed":
            failed[names[row.receiver]] += 1
        else:
            stored[names[row.receiver]] += unbundled(row.envelope, row.size)
    travelling = [each for message in published for each in message.deliveries]
    for message in published:
        if not message.is_reference:
            stored[names[message.receiver.name]] += message.envelopes

    for receiver in RECEIVERS:
        if receiver in ("plain", "robust") and site.by_hand:
            continue  # Django calls the callbacks of what was undone by hand.
        expected = site.committed(receiver)
        sent = [n for n in expected if n not in site.large]
        assert sorted(each.kwargs["n"] for each in stored[receiver]) == sent
        if receiver != "plain":  # That has told its sender.
            assert failed[receiver] == len(expected) - len(sent)
    assert len({each.id for each in travelling}) == len(travelling)
    at_once = {
        pk
        for pk, row in rows.items()
        if row.state == "published" and names[row.receiver] != "later"
    }
    assert at_once <= {each.id for each in travelling}
    assert "commit" not in vars(connections[ledger])
