"""The broker fails while a signal is sent, and what is robust is delivered when it is back."""

from __future__ import annotations

import contextlib
import logging
import time

import pytest
from django.db import transaction

from .oracle import USING, Run, kept
from .scale import in_modes, scaled

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]

#: Seconds that a send may take at most, by default.
BOUND = 3.5


class TestDown:
    @in_modes("robust", "durable")
    def test_refused(self, rig, kind, mode, told) -> None:
        """Nothing listens: the sender sees a warning, and all is delivered when it is back."""
        proxy = rig.proxy(kind)
        rig.use(kind, proxy.port)
        worker = rig.worker()
        run, control = Run(f"1 {kind} refuses", mode), Run(f"1 {kind} refuses", "plain")
        half = scaled(50, 5_000)
        run.send(range(10))
        run.wait_until_delivered()
        proxy.close()
        down = time.monotonic()

        run.send(range(10, half))
        run.send_outside(range(half, 2 * half))
        run.send_and_undo(range(2 * half, 2 * half + 10))
        assert told(logging.ERROR) == []
        control.send(range(10))
        time.sleep(max(0, down + scaled(2, 60) - time.monotonic()))
        proxy.open()

        run.wait_until_delivered(scaled(60, 900))
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        assert run.slowest < BOUND
        assert kept(told) > 0
        assert control.tally().lost == 10


class TestSilent:
    @in_modes("durable")
    def test_accepts_and_never_answers(self, rig, kind, mode, told) -> None:
        """Each send keeps within the bound, and the relay, which is stuck as well, too."""
        proxy = rig.proxy(kind)
        rig.use(kind, proxy.port)
        rig.worker(broker=rig.direct, options={"RELAY": False})
        relay = rig.relay()
        run, control = Run(f"2 {kind} is silent", mode), Run(f"2 {kind} is silent", "plain")
        run.send(range(10))
        run.wait_until_delivered()
        proxy.fall_silent()
        down = time.monotonic()

        number = 10
        while number < 12 or time.monotonic() < down + scaled(0, 60):
            run.send([number])
            number += 1
        run.send_outside([number])
        run.send(range(number + 1, number + scaled(50, 10_000)), together=True)
        run.send_and_undo([100_000])
        assert told(logging.ERROR) == []
        control.send(range(5), together=True)
        relay.wait_for_line("The broker did not take")
        proxy.speak()
        proxy.cut()

        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        assert run.slowest < BOUND
        assert control.tally().lost == 5


class TestCut:
    @in_modes("once")
    def test_in_the_middle_of_a_batch(self, rig, kind, mode) -> None:
        """After any number of bytes, and with the broker back at once or not: all of it once."""
        batch, steps = scaled(10, 20), scaled(3, 100)
        proxy = rig.proxy(kind)
        rig.use(kind, proxy.port)
        rig.worker(broker=rig.direct)
        run = Run(f"3 {kind} cuts", mode)
        control = Run(f"3 {kind} cuts", "plain")
        run.send(range(batch), together=True)
        before = proxy.bytes
        run.send(range(batch, 2 * batch), together=True)
        size = proxy.bytes - before
        number = 2 * batch

        for and_close in (False, True):
            for step in range(steps):
                for each in (run, control):
                    proxy.cut_after(step * size // steps, and_close=and_close)
                    each.send(range(number, number + batch), together=True)
                    assert not proxy.is_to_cut, "it was not cut"
                    if and_close:
                        proxy.open()
                number += batch

        run.wait_until_delivered(scaled(60, 900))
        control.wait_until_delivered(5)
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        told = control.tally()
        assert told.lost + told.twice > 0


class TestCallbacks:
    @in_modes("robust", "durable")
    @pytest.mark.parametrize("is_robust", [True, False])
    def test_one_of_the_users_raises(self, rig, mode, is_robust) -> None:
        """An ``on_commit`` callback that fails, before ours or after it, prevents nothing."""
        rig.use("redis")
        rig.worker()
        run, called = Run("5 a callback raises", mode), []

        def fail() -> None:
            called.append("failed")
            raise LookupError("the user's own")

        for number, places in enumerate([("before",), ("after",), ("before", "after")]):
            with contextlib.suppress(LookupError), transaction.atomic(using=USING):
                if "before" in places:
                    transaction.on_commit(fail, using=USING, robust=is_robust)
                run.send([number])
                transaction.on_commit(lambda: called.append("ran"), using=USING)
                if "after" in places:
                    transaction.on_commit(fail, using=USING, robust=is_robust)

        run.wait_until_delivered()
        tally = run.tally()
        assert "failed" in called
        assert (tally.committed, tally.lost, tally.twice) == (3, 0, 0)
