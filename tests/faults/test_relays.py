"""Several relays at once, dead ones, paused ones, and people at work on the same rows."""

from __future__ import annotations

import base64
import collections
import contextlib
import datetime as dt
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
import redis
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from async_signals import registry, testing
from async_signals.ids import new_id
from async_signals.ledger import pausing, records
from async_signals.models import Delivery, Event, State
from async_signals.wire.envelope import unpack
from tests.conftest import require
from tests.testproject.routers import LedgerElsewhere
from tests.testproject.services import port_of

from .oracle import Run, let_time_pass, lines, wait_until
from .scale import in_modes, scaled
from .test_conflicts import waiting_for_a_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]

COUNT = scaled(300, 10_000)


def store(
    run: Run,
    count: int,
    ledger: str,
    start: contextlib.AbstractContextManager[None] | None = None,
) -> None:
    """Put events into the ledger as if the broker had been down when they were sent."""
    with testing.capture() as sent:
        run.send(range(count), together=True)
    with start or contextlib.nullcontext():
        if registry.get(sent[0].receiver).options.durable:  # They are there, and wait a little.
            waiting = {"state": "pending", "publishes": 0, "due_at": Now()}
            Delivery.objects.using(ledger).update(**waiting)
        else:
            records.stored(sent, using=ledger)


@contextlib.contextmanager
def all_at_once(number: int, ledger: str) -> Iterator[None]:
    """Let so many relays begin upon what is stored in the block when each of them asks for it."""
    table = connections[ledger].ops.quote_name(Delivery._meta.db_table)
    with transaction.atomic(using=ledger), connections[ledger].cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")  # It can be read, and that is all.
        yield
        wait_until(lambda: waiting_for_a_lock() >= number, what="the beginning of all relays")


class Queue:
    """The deliveries in a queue of Redis, read past Celery; a message may have several."""

    def __init__(self, broker) -> None:
        self._client = redis.Redis(port=port_of("redis"), db=9)
        self._key = broker.transport_options["global_keyprefix"] + broker.queue

    def __len__(self) -> int:
        return sum(self.ids().values())

    def ids(self) -> collections.Counter:
        messages = map(json.loads, self._client.lrange(self._key, 0, -1))
        bodies = (json.loads(base64.b64decode(message["body"])) for message in messages)
        return collections.Counter(each.id for (wire,), *_ in bodies for each in unpack(wire))

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def queue(rig):
    queue = Queue(rig.use("redis"))
    yield queue
    queue.close()


class TestTogether:
    @in_modes("robust")
    @pytest.mark.parametrize("number", scaled([2, 5], [2, 10]))
    def test_none_is_published_twice(self, rig, mode, queue, number, ledger) -> None:
        """A backlog, and all of them begin upon it at the same moment."""
        relays = [rig.relay() for _ in range(number)]
        run = Run(f"18 {number} relays", mode)
        store(run, COUNT, ledger, all_at_once(number, ledger))

        wait_until(lambda: len(queue) >= COUNT, what="the backlog's end")
        for relay in relays:
            relay.terminate()
        for relay in relays:
            relay.wait_for_line("relayed ")
            assert relay.wait(60) == 0
        counts = queue.ids()
        assert (len(counts), sum(counts.values())) == (COUNT, COUNT)
        shares = [int(relay.output.split("relayed ")[1]) for relay in relays]
        assert sum(shares) == COUNT
        assert sum(share > 0 for share in shares) > 1, "one has done it all"
        rig.worker()
        run.wait_until_delivered()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)


class TestDead:
    @in_modes("durable")
    def test_killed_in_the_middle(self, rig, mode, queue, ledger) -> None:
        """What it had taken and not published is published when its time is over."""
        run = Run("18 a relay is killed", mode)
        number = scaled(2, 20)
        share = COUNT // (number + 1)
        store(run, COUNT, ledger)
        waiting = Delivery.objects.using(ledger).filter(state="pending")
        for n in range(number):
            goal = len(queue) + 1
            with transaction.atomic(using=ledger):
                # Relays pass by what is locked: none does it all, however late it is killed.
                free = list(waiting.values_list("pk", flat=True)[:share])
                list(waiting.exclude(pk__in=free).select_for_update().values_list("pk"))
                relay = rig.relay()
                wait_until(lambda goal=goal: len(queue) >= goal, what="a publish")
                relay.kill()
            assert len(queue) < COUNT, f"relay {n} had done it all"
        taken = Delivery.objects.using(ledger).filter(state="published").count()
        rig.relay()
        wait_until(
            lambda: not Delivery.objects.using(ledger).filter(state="pending").exists(),
            timeout=scaled(30, 300),
        )
        assert taken >= 1
        let_time_pass(ledger)
        wait_until(lambda: len(queue.ids()) == COUNT, timeout=120, what="the rest")
        rig.worker()

        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)


class TestPaused:
    @in_modes("robust")
    def test_stopped_past_its_batch_and_continued(self, rig, mode, queue, ledger) -> None:
        """Another one publishes its batch again; what it then publishes itself is a no-op."""
        proxy = rig.proxy("redis")
        paused = rig.relay(
            ASYNC_SIGNALS_TEST_BROKER=f"redis://127.0.0.1:{proxy.port}/9",
            options={"PUBLISH_TIMEOUT": 300},
        )
        proxy.fall_silent()
        run = Run("18 a relay is paused", mode)
        store(run, COUNT, ledger)
        published = Delivery.objects.using(ledger).filter(state="published")
        wait_until(published.exists, what="a batch of the one that hangs")
        os.kill(paused.pid, signal.SIGSTOP)
        stuck = published.count()
        rig.relay()
        wait_until(lambda: len(queue) >= COUNT - stuck, what="the others")
        let_time_pass(ledger)
        wait_until(lambda: len(queue.ids()) == COUNT, timeout=120, what="the paused batch")
        rig.worker()
        run.wait_until_delivered()
        proxy.speak()
        proxy.cut()
        os.kill(paused.pid, signal.SIGCONT)
        paused.terminate()
        paused.wait_for_line("relayed ")

        last = Run("18 after the pause", mode)
        last.send(range(20))
        last.wait_until_delivered()
        assert 0 < stuck < COUNT
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        assert len(run.written("start")) == COUNT
        left = Delivery.objects.using(ledger).exclude(state="succeeded")
        wait_until(lambda: not left.exists(), what="the record of all")


class TestPeopleAtWork:
    @pytest.mark.parametrize("alias", ["postgresql", "mariadb"])
    def test_prune_retry_all_and_relays(self, rig, queue, alias, monkeypatch) -> None:
        """On the same rows at the same time: no deadlock surfaces, and no row is lost."""
        require(alias)
        monkeypatch.setattr(LedgerElsewhere, "alias", alias)
        pausing.forget()
        third = scaled(5_000, 100_000) // 3
        events, rows = made(third)
        Event.objects.using(alias).bulk_create(events, batch_size=2_000)
        Delivery.objects.using(alias).bulk_create(rows, batch_size=2_000)
        people = [
            rig.operator("prune"), rig.operator("prune"),
            rig.operator("retry"), rig.operator("retry"),
        ]  # fmt: skip
        relays = [rig.relay(), rig.relay()]

        def is_over() -> bool:
            left = Delivery.objects.using(alias)
            return (
                not left.filter(state__in=["failed", "pending"]).exists()
                and not left.filter(state="succeeded").exists()
            )

        expected = {row.pk for row in rows if row.state != State.SUCCEEDED}
        wait_until(is_over, timeout=scaled(60, 1_800), what="the end of the work")
        # A batch may be on its way still, for a second time where the broker was slow.
        wait_until(lambda: len(queue.ids()) == len(expected), what="the last publish")
        for each in (*people, *relays):
            each.terminate()
        for each in (*people, *relays):
            assert each.wait(60) == 0, each.output[-2000:]
            assert "operator failed" not in each.output, each.output[-2000:]
            assert "cannot use the ledger" not in each.output, each.output[-2000:]
            assert "eadlock" not in each.output
        left = Delivery.objects.using(alias).values_list("pk", flat=True)
        assert {str(key) for key in left} == expected
        assert set(queue.ids()) == expected
        lines.append(
            f"27 people at work, {alias} [robust]: rows {len(rows)}, pruned {third}, published "
            f"{len(expected)}, lost 0"
        )


def made(third: int) -> tuple[list[Event], list[Delivery]]:
    """As many deliveries that failed, that wait, and that are to be pruned."""
    long_ago = timezone.now() - dt.timedelta(days=60)
    run = Run("made", "robust")
    with testing.capture() as sent:
        run.signal.send(sender=None, run=run.id, number=0, using="default")
    text = records.dump(sent[0])
    states = {
        State.FAILED: {"finished_at": long_ago},
        State.PENDING: {"due_at": long_ago},
        State.SUCCEEDED: {"finished_at": long_ago},
    }
    events, rows = [], []
    for state, standing in states.items():
        for _ in range(third):
            event = Event(id=new_id(), sent_at=long_ago)
            events.append(event)
            rows.append(
                Delivery(
                    id=new_id(),
                    event=event,
                    receiver=sent[0].receiver,
                    sent_at=long_ago,
                    state=state,
                    envelope=text,
                    **standing,
                )
            )
    return events, rows
