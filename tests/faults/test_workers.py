"""Workers die, are deployed anew, are older than the sender, or have another time."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal

import pytest
from django.db.models import Sum

from async_signals.models import Attempt, Claim, Delivery
from tests.worker import ROOT

from .oracle import Run, Tally, let_time_pass, wait_until
from .scale import PROMISING, in_modes, scaled

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]

#: The broker gives back what a dead worker has taken, on Redis.
SOON = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
#: The same for what was on its way to a child that died: later than anything here takes.
RESTORED = {**SOON, "visibility_timeout": 20}


def deaths(ledger: str) -> int:
    return Delivery.objects.using(ledger).aggregate(n=Sum("deaths"))["n"] or 0


def slow_at_first(number: int) -> list[str]:
    """Of two hundred, four would share a message: of the first ones, each takes a second."""
    return ["wait:1"] if number < 16 else []


class TestKilledChild:
    @in_modes("robust", "once")
    @pytest.mark.parametrize("order", ["die", "effect die"], ids=["before", "after"])
    def test_each_is_a_counted_attempt(self, rig, some_kind, mode, order, ledger) -> None:
        """SIGKILL before the effect, or after it: a bounded number of effects for each."""
        rig.use(some_kind, **(RESTORED if some_kind == "redis" else {}))
        worker = rig.worker("--max-tasks-per-child=1000")
        name = f"6 children killed, {order}, {some_kind}"
        run, control = Run(name, mode), Run(name, "plain")
        count, kills = scaled(40, 10_000), scaled(10, 250)
        every = count // kills
        run.send(range(count), orders=lambda number: [] if number % every else [order])
        control.send(range(2), orders=[order])

        run.wait_until_delivered(scaled(60, 3_000))
        wait_until(
            lambda: (
                not Claim.objects.using(ledger).filter(done=False).exists()
                and not Delivery.objects.using(ledger).exclude(state="succeeded").exists()
            ),
            what="the end of all attempts",
            timeout=scaled(30, 300),
        )
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.rolled_back) == (0, 0)
        assert tally.twice == (0 if order == "die" or mode == "once" else kills)
        assert deaths(ledger) == kills
        assert Attempt.objects.using(ledger).filter(outcome="died").count() == deaths(ledger)
        if order == "die":
            wait_until(lambda: len(control.written("start")) == 2)
            assert control.tally().lost == 2

    @in_modes("robust")
    def test_three_deaths_quarantine(self, rig, mode, ledger) -> None:
        """What kills its worker each time runs three times; all others go on."""
        rig.use("redis", **RESTORED)
        rig.worker()
        poison, run = Run("8 poison", mode), Run("8 beside the poison", mode)
        count = scaled(50, 1_000)
        poison.send([0], orders=["die"] * 9)
        run.send(range(count))

        run.wait_until_delivered(scaled(60, 900))
        row = wait_until(lambda: Delivery.objects.using(ledger).filter(state="failed").first())
        assert (row.deaths, row.due_at) == (3, None)
        assert "quarantined" in row.reason
        assert len(poison.written("start")) == 3
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)


def ended(run: Run, ledger: str) -> Tally:
    """Return what *run* came to, when each of its deliveries has succeeded."""
    # What the relay of a killed worker had taken, and not yet published.
    let_time_pass(ledger)
    run.wait_until_delivered(scaled(60, 900))
    wait_until(lambda: not Delivery.objects.using(ledger).exclude(state="succeeded").exists())
    return run.tally()


class TestKilledWorker:
    @pytest.mark.parametrize(
        ("some_kind", "mode"),
        scaled(
            [("rabbitmq", "robust"), ("redis", "once")],
            list(itertools.product(["redis", "rabbitmq"], PROMISING)),
        ),
    )
    def test_power_cuts(self, rig, some_kind, mode, ledger) -> None:
        """
        The whole worker is killed again and again, wherever it is in its work.

        What it has just taken from Redis, and not yet written down there as taken, is nowhere:
        the transport of Celery asks with BRPOP. No receiver has seen it: only what is durable
        is found in the ledger, when its time has come.
        """
        rig.use(some_kind, **(SOON if some_kind == "redis" else {}))
        run = Run(f"6 workers killed, {some_kind}", mode)
        count, kills = scaled(100, 10_000), scaled(2, 80)
        seed = random.randrange(10**6)
        chance = random.Random(seed)
        run.name += f", seed {seed}"
        run.send(range(count), orders=lambda number: ["effect wait:0.05"] if number % 2 else [])
        options = {"MAX_DEATHS": 1_000}
        for n in range(kills):
            worker = rig.worker(options=options)
            goal = count * (n + 1) // (kills + 2) + chance.randrange(count // (kills + 2))
            wait_until(lambda goal=goal: len(run.delivered) >= goal, timeout=60)
            worker.kill()
        rig.worker(options=options)

        tally = ended(run, ledger)
        assert tally.lost <= (kills if (some_kind, mode) == ("redis", "robust") else 0)
        assert run.committed - run.delivered <= run.committed - run.begun
        assert tally.rolled_back == 0
        most = 0 if mode == "once" else 2 * kills
        assert tally.twice <= most, "two processes in each worker"

    @in_modes("robust")
    def test_in_the_receiver(self, rig, some_kind, mode, ledger, gates) -> None:
        """
        The whole worker is killed when each of its processes is in a receiver.

        It takes no more messages then than it has, so that Redis, too, gives all of them back.
        """
        rig.use(some_kind, **(SOON if some_kind == "redis" else {}))
        run = Run(f"6 workers killed in the receiver, {some_kind}", mode)
        count, kills = scaled(60, 10_000), scaled(2, 80)
        every = count // (kills + 1)
        holding = {each * every + n for each in range(kills) for n in (0, 1)}
        order = f"effect hold:{gates[0].name}"
        run.send(range(count), orders=lambda number: [order] if number in holding else [])
        options = {"MAX_DEATHS": 1_000}
        for n in range(kills):
            worker = rig.worker(options=options)
            wait_until(
                lambda n=n: (
                    len(holding & {each["number"] for each in run.written("start")}) > 2 * n + 1
                ),
                what="two processes that hold",
            )
            wait_until(lambda worker=worker: in_hand(worker) == PREFETCHED, what="a full hand")
            worker.kill()
        rig.worker(options=options)

        tally = ended(run, ledger)
        assert (tally.lost, tally.rolled_back) == (0, 0)
        assert tally.twice == (0 if mode == "once" else 2 * kills)


#: What a worker with two processes takes from its broker, at most, before it has done some.
PREFETCHED = 8


def in_hand(worker) -> int:
    """Return the messages that *worker* has taken and not acknowledged."""
    return worker.output.count("] received") - worker.output.count("] succeeded")


class TestStalled:
    @in_modes("once")
    def test_past_its_lease_and_back(self, rig, mode, ledger, gates) -> None:
        """A worker that was stopped comes back while another has its delivery: it has lost it."""
        rig.use("redis")
        stalled = rig.worker()
        run = Run("18 a worker is stopped past its lease", mode)
        run.send([0], orders=[f"effect hold:{gates[0].name}", f"effect hold:{gates[1].name}"])
        wait_until(lambda: run.written("effect"), what="the first run")
        os.killpg(stalled.pid, signal.SIGSTOP)
        rig.worker()
        wait_until(lambda: len(run.written("effect")) == 2, what="the second run")
        os.killpg(stalled.pid, signal.SIGCONT)
        gates[0].unlink()
        stalled.wait_for_line("ran for longer than its lease")
        gates[1].unlink()

        rows = Delivery.objects.using(ledger)
        wait_until(lambda: not rows.exclude(state="succeeded").exists())
        run.wait_until_delivered()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0 if mode == "once" else 1)
        outcomes = Attempt.objects.using(ledger).order_by("number").values_list("outcome")
        assert [outcome for (outcome,) in outcomes] == ["died", "succeeded"]


class TestRollingRestarts:
    @in_modes("durable")
    @pytest.mark.parametrize("some_kind", scaled(["rabbitmq"], ["redis", "rabbitmq"]))
    def test_sigterm_under_load(self, rig, some_kind, mode) -> None:
        """A deployment while events are sent: each runs once."""
        rig.use(some_kind, **(SOON if some_kind == "redis" else {}))
        run = Run(f"7 rolling restarts, {some_kind}", mode)
        restarts, step = scaled(2, 10), scaled(40, 1_000)
        worker = rig.worker()
        for n in range(restarts):
            run.send(range(n * step, (n + 1) * step), orders=["wait:0.02"])
            worker.terminate()
            following = rig.worker()
            # One that Celery's main process has stopped to listen to waits for it for 30 s.
            assert worker.wait(60) == 0, "it did not end by itself"
            worker = following

        run.wait_until_delivered()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)


class TestClock:
    @in_modes("robust")
    @pytest.mark.parametrize("shift", [600, -600])
    def test_ten_minutes_off(self, rig, mode, shift, ledger) -> None:
        """The database's clock decides: nothing runs early, and nothing at the same time."""
        rig.use("redis", unacked_restore_interval=1, unacked_restore_throttle=1)
        shifted = rig.worker(
            PYTHONPATH=os.pathsep.join([f"{ROOT}/tests/faults/shifted_clock", str(ROOT)]),
            ASYNC_SIGNALS_TEST_SHIFT=str(shift),
        )
        worker = rig.worker()
        run, long = Run(f"19 clock {shift:+} s", mode), Run(f"19 clock {shift:+} s, long", mode)
        late = Run(f"19 clock {shift:+} s, late", "late")
        count = scaled(50, 10_000)
        late.send(range(5))
        # Longer than a lease.
        long.send(range(4), orders=["wait:4"])
        run.send(range(count), orders=lambda number: [] if number % 5 else ["raise"])

        for each in (run, long, late):
            each.wait_until_delivered()
            tally = each.tally()
            assert (tally.lost, tally.twice) == (0, 0)
        pids = {os.getpgid(entry["pid"]) for entry in run.written("start")}
        assert pids == {shifted.pid, worker.pid}, "one of the two has done nothing"
        assert len(long.written("start")) == 4
        assert len(run.written("start")) == count + count // 5
        assert min(entry["at"] for entry in late.written("start")) >= late.started + 3
        assert deaths(ledger) == 0


class TestVersions:
    @pytest.mark.parametrize("mode", scaled(["new"], ["new", "durable_new"]))
    def test_a_worker_that_is_older_than_the_sender(self, rig, mode, ledger) -> None:
        """It does not know the receiver: the ledger keeps it until one comes that does."""
        rig.use("redis")
        old = rig.worker(ASYNC_SIGNALS_TEST_OLD="1")
        run = Run("20 an older worker", mode)
        count = scaled(20, 1_000)
        run.send(range(count))
        kept = Delivery.objects.using(ledger).filter(state="pending")
        wait_until(lambda: kept.count() == count, what="the keeping of all", timeout=60)
        wait_until(lambda: old.output.count("Kept delivery") == count, what="the log of each")
        rig.worker(ASYNC_SIGNALS_TEST_DEPLOY="new")  # Beside the old one, as in a deployment.
        wait_until(lambda: run.delivered, what="the first success", timeout=60)
        old.terminate()  # Until then it has taken its share of them, and given it back.

        run.wait_until_delivered(scaled(45, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)


class TestReceivers:
    @pytest.mark.parametrize("mode", ["limited", "limited_once"])
    def test_every_way_to_fail_is_an_attempt(self, rig, mode, ledger) -> None:
        """Limits of time, and what asks the process to end: counted, and tried again."""
        failures = {
            "hang": "billiard.exceptions.SoftTimeLimitExceeded",
            "stubborn": "SystemExit",  # Past the soft limit; see below.
            "exit": "SystemExit",
            "interrupt": "KeyboardInterrupt",
            "recurse": "RecursionError",
        }
        rig.use("redis")
        worker = rig.worker("-c", "4")
        run = Run("25 every way to fail", mode)
        run.send(range(5), orders=lambda number: [list(failures)[number]])
        run.wait_until_delivered(30)

        rows = Delivery.objects.using(ledger).filter(state="succeeded")
        wait_until(lambda: rows.count() == 5, what="the success of all")
        seen = {}
        for row in rows:
            first, second = row.attempt_set.using(ledger).all()
            number = json.loads(row.payload)["number"]
            seen[list(failures)[number]] = (first.outcome, first.exception, second.outcome)
        # At the hard limit it is told to end, and killed where it has not recorded that in time.
        assert seen["stubborn"] in {
            ("raised", "SystemExit", "succeeded"), ("died", "", "succeeded")
        }  # fmt: skip
        assert seen == {
            order: ("raised", exception, "succeeded") for order, exception in failures.items()
        } | {"stubborn": seen["stubborn"]}
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)

    @in_modes("durable", of=("durable", "once"))
    def test_a_soft_limit_of_the_worker_is_for_each(self, rig, mode, ledger) -> None:
        """Senders know nothing of its command line: those that were sent together share no time."""
        rig.use("redis")
        rig.worker("-c", "4", "--soft-time-limit=3")
        run = Run("25 a soft limit of the worker", mode)
        run.send(range(201), orders=slow_at_first, together=True)

        run.wait_until_delivered(60)
        rows = Delivery.objects.using(ledger)
        wait_until(lambda: rows.filter(state="succeeded").count() == 201, what="all successes")
        assert not Attempt.objects.using(ledger).exclude(outcome="succeeded").exists()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)

    @in_modes("durable", of=("durable", "once"))
    def test_a_hard_limit_of_the_worker_is_for_each(self, rig, mode, ledger) -> None:
        """Of those that were sent together the one that hangs pays for it, and no other."""
        rig.use("redis")
        rig.worker("-c", "4", "--time-limit=3")
        run = Run("25 a hard limit of the worker", mode)
        run.send(
            range(201),
            orders=lambda number: ["hang"] if number == 0 else slow_at_first(number),
            together=True,
        )

        run.wait_until_delivered(60)
        rows = Delivery.objects.using(ledger)
        wait_until(lambda: rows.filter(state="succeeded").count() == 201, what="all successes")
        [failed] = Attempt.objects.using(ledger).exclude(outcome="succeeded")
        # It is told to end, and killed where it has not recorded that in time.
        assert failed.outcome in {"raised", "died"}
        assert json.loads(failed.delivery.payload)["number"] == 0
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)

    @in_modes("robust")
    def test_a_result_that_is_not_json(self, rig, mode, ledger) -> None:
        """What a receiver returns is nobody's affair."""
        rig.use("redis")
        worker = rig.worker()
        run = Run("25 a result that is not JSON", mode)
        run.send([0], orders=["return"])
        run.wait_until_delivered()
        wait_until(lambda: Claim.objects.using(ledger).filter(done=True).exists())

        assert not Delivery.objects.using(ledger).exists()
        assert "ERROR" not in worker.output
        assert run.tally().lost == 0
