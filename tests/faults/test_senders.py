"""Senders die: at each boundary of the code between the insert and the publish, and beyond."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from django.db import transaction

from async_signals.models import Delivery

from .oracle import USING, Run, let_time_pass, wait_until
from .scale import DURABLE, in_modes, scaled

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
    @in_modes("durable")
    def test_memory_is_bounded(self, rig, mode) -> None:
        """Many events in one transaction: some KiB for each; in chunks: those of one chunk."""
        rig.use("redis")
        run = Run("24 a burst", mode)
        count, chunks = scaled(200, 10_000), scaled(2, 20)
        run.send([0])
        peaks = []
        for chunk in range(chunks):
            first = 1 + chunk * count
            tracemalloc.start()
            run.send(range(first, first + count), together=True)
            peaks.append(tracemalloc.get_traced_memory()[1] / 1024)
            tracemalloc.stop()
        run.name += f", {max(peaks) / count:.1f} KiB for each event of a transaction"
        assert max(peaks) < 32 * count
        assert peaks[-1] < 1.5 * peaks[0]
        rig.worker("-c", "4")

        run.wait_until_delivered(scaled(60, 3_000))
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (1 + chunks * count, 0, 0)
