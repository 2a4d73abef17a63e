"""Senders die: at each boundary of the code between the insert and the publish, and beyond."""

from __future__ import annotations

import base64
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from django.db import transaction
from kombu import messaging

from async_signals.models import Delivery
from async_signals.wire.envelope import Reference, unbundled, unpack
from tests.testapp.models import Sent

from .oracle import USING, Run, let_time_pass, wait_until
from .scale import DURABLE, in_modes, scaled

if TYPE_CHECKING:
    import uuid

    import redis

    from tests.testproject.brokers import Broker
    from tests.worker import Process

#: Commands that kombu sends to Redis in one request: it has batches since 5.7.
BATCH = getattr(messaging, "DEFAULT_BATCH_SIZE", 1)

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 2 * 3600)),
]


class TestKilled:
    @in_modes("durable", of=DURABLE)
    def test_at_each_boundary(self, rig, mode, ledger) -> None:
        """
        What had been committed is delivered, and nothing of what was rolled back.

        In the short version at every line of the outbox and at a sample of the others; in the
        full one at every instruction.
        """
        rig.use("redis")
        run, control = Run("4 senders killed", mode), Run("4 senders killed", "robust")
        told = die(rig, run, scaled(25, None))
        lost = die(rig, control, scaled(25, 200))
        assert lost["died"] > 20
        run.name += f" at {told['died']} of {told['boundaries']} boundaries"
        rows = Delivery.objects.using(ledger)
        assert 5 < rows.count() == len(run.committed)
        assert rig.messages() < rows.count(), "none died before the publish"
        rig.worker()

        let_time_pass(ledger)
        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        assert control.tally().lost > 0

    @in_modes("durable", of=DURABLE)
    def test_at_each_boundary_of_a_bundle(self, rig, mode, ledger) -> None:
        """A large transaction leaves one row, and all that it stands for is delivered."""
        rig.use("redis")
        run = Run("4 senders of a bundle killed", mode)
        many = 10  # As many as are a bundle there.
        told = die(rig, run, scaled(40, None), many)
        assert told["died"] >= scaled(40, 200)
        run.name += f" at {told['died']} of {told['boundaries']} boundaries"
        sizes = list(Delivery.objects.using(ledger).values_list("size", flat=True))
        assert sum(sizes) == len(run.committed)
        assert sizes.count(many) >= 5
        rig.worker()

        let_time_pass(ledger)
        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)


def die(rig, run: Run, sample: int | None, many: int = 1) -> dict[str, int]:
    sender = rig.crash_points(run, sample, many)
    line = sender.wait_for_line("all have died: ", timeout=scaled(60, 7_000))
    return json.loads(line.partition(": ")[2])


class TestRolledBack:
    @in_modes("robust", "durable")
    def test_nothing_is_delivered(self, rig, mode) -> None:
        """Of what was undone, as a whole or as a savepoint, among what was committed."""
        rig.use("redis")
        rig.worker()
        run = Run("none: half of it is rolled back", mode)
        count = scaled(40, 10_000)
        for number in range(0, count, 4):
            run.send([number])
            run.send_and_undo([number + 1])
            with transaction.atomic(using=USING):
                run.send_and_undo([number + 2])
                run.send([number + 3])

        run.wait_until_delivered()
        wait_until(lambda: rig.messages() == 0, what="the end of the queue")
        last = Run("none: the last one", mode)
        last.send(range(20))
        last.wait_until_delivered()
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.rolled_back) == (count // 2, 0, 0)
        assert run.begun == run.committed


class TestBurst:
    """A million events in all, of which those of two transactions are delivered to the end."""

    @in_modes("robust", "durable")
    def test_memory_is_bounded(self, rig, mode, ledger) -> None:
        """
        A sender's memory is that of its largest transaction, however many there are.

        All of a transaction is published together. What no worker is to have, nor time for, is
        looked for where it waits, and taken away.
        """
        server = rig.redis_server()
        waiting = Waiting(rig.use("redis", server.port), server.client, ledger)
        size, chunks = scaled((200, 4), (10_000, 100))
        run, between = Run("24 a burst", mode), Run("24 a burst, between", mode)
        sender = rig.burst(mode, size, [run, *[between] * (chunks - 2), run])
        at_first = told_by(sender, "sender ready. ")["peak"]
        told = []
        waiting.keep()
        for chunk in range(chunks):
            os.kill(sender.pid, signal.SIGUSR1)
            told.append(told_by(sender, f"chunk {chunk}: "))
            numbers = range(1 + chunk * size, 1 + (chunk + 1) * size)
            assert waiting.numbers == list(numbers), f"of chunk {chunk}"
            assert told[-1]["requests"] == waiting.requests
            if 0 < chunk < chunks - 1:
                sent = Sent.objects.using(USING).filter(run=between.id)
                assert sorted(sent.values_list("number", flat=True)) == list(numbers)
                sent.delete()
                waiting.take_away()
            else:
                waiting.keep()
        sender.kill()
        peaks = [each["peak"] for each in told]
        run.name += (
            f": {chunks * size} events in {chunks} transactions, peak RSS of the sender "
            f"{at_first:.0f} MiB before them, {peaks[0]:.0f} after the first, {peaks[2]:.0f} after "
            f"the third, {peaks[-1]:.0f} in the end; requests to Redis for each "
            f"{told[-1]['requests']}; of the first and the last"
        )
        rig.worker("-c", "4")

        run.wait_until_delivered(scaled(60, 1_800))
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (1 + 2 * size, 0, 0)
        assert peaks[-1] - at_first < scaled(16, 64)
        assert peaks[-1] < 1.05 * peaks[2]


def told_by(sender: Process, what: str) -> dict[str, float]:
    line = sender.wait_for_line(what, timeout=scaled(30, 120))
    return json.loads(line.removeprefix(what))


class Waiting:
    """What was published of a transaction, and not kept: the deliveries are in it, or its rows."""

    def __init__(self, broker: Broker, client: redis.Redis, ledger: str) -> None:
        self._key = broker.transport_options["global_keyprefix"] + broker.queue
        self._client = client
        self._rows = Delivery.objects.using(ledger)
        self._kept_messages = 0  #: Those that came first, at the end of the list.
        self._kept_rows: list[uuid.UUID] = []

    @property
    def _new_rows(self):
        return self._rows.exclude(pk__in=self._kept_rows)

    @property
    def _messages(self) -> int:
        return self._client.llen(self._key) - self._kept_messages

    @property
    def requests(self) -> int:
        """Requests to Redis that are needed for them."""
        return -(-self._messages // BATCH)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events, in their order; what is stored has to be published, too."""
        bodies = [
            json.loads(base64.b64decode(json.loads(message)["body"]))
            for message in self._client.lrange(self._key, 0, self._messages - 1)
        ]
        published = [each for (wire,), *_ in reversed(bodies) for each in unpack(wire)]
        if not isinstance(published[0], Reference):
            return [each.kwargs["number"] for each in published]
        rows = {str(row.pk): row for row in self._new_rows}
        assert set(rows) == {each.id for each in published}
        stored = [rows[each.id] for each in published]
        return [
            each.kwargs["number"] for row in stored for each in unbundled(row.envelope, row.size)
        ]

    def keep(self) -> None:
        """Let it be delivered."""
        self._kept_messages = self._client.llen(self._key)
        self._kept_rows = list(self._rows.values_list("pk", flat=True))

    def take_away(self) -> None:
        """Let it be as if it had been delivered."""
        self._client.ltrim(self._key, self._messages, -1)
        self._new_rows.delete()
