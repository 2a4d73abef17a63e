"""
The same faults for plain Celery, by hand, and for what is durable.

By hand is what a site writes without this package: a receiver of Django's that calls
``transaction.on_commit(task.delay)``. ``nox -s control`` prints all of the table; the short
version has one of its rows.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from async_signals.wire.envelope import pack

from .oracle import Run, captured, let_time_pass, wait_until
from .rig import reference
from .scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]

COUNT = scaled(20, 1_000)


def send(run: Run, numbers: Iterable[int], **how) -> None:
    """Send, and go on where the sender's request fails, after its commit."""
    for number in numbers:
        with contextlib.suppress(KombuError, RedisError, OSError):
            run.send([number], **how)


def broker_down(rig, run: Run) -> None:
    """The broker refuses while events are sent."""
    proxy = rig.proxy("redis")
    rig.use("redis", proxy.port)
    send(run, range(5))
    proxy.close()
    send(run, range(5, 8))
    proxy.open()


def broker_forgets(rig, run: Run) -> None:
    """Redis is restarted without persistence, with the events in it."""
    server = rig.redis_server()
    rig.use("redis", server.port)
    send(run, range(COUNT))
    server.kill()
    server.start()


def sender_killed(rig, run: Run) -> None:
    """SIGKILL at one boundary after another, from the insert to the publish."""
    rig.use("redis")
    sender = rig.crash_points(run, scaled(25, 300), many=1)
    died = sender.wait_for_line("all have died: ", timeout=3_000)
    assert json.loads(died.partition(": ")[2])["died"] > 20


def worker_killed(rig, run: Run) -> None:
    """SIGKILL of its process in the receiver, before the effect of one half, after the other's."""
    rig.use("redis")
    send(run, range(4), orders=["die"])
    send(run, range(4, 8), orders=["effect die"])
    send(run, range(8, COUNT))


def delivered_twice(rig, run: Run) -> None:
    """The broker hands each message to two workers."""
    rig.use("redis")
    for number in range(COUNT):
        if run.mode == "by_hand":
            send(run, [number])
            rig.send_by_hand(run, number)
        else:
            envelope = captured(run, number)
            for _ in range(2):
                rig.publish_stored(envelope, pack([reference(envelope)]))


FAULTS: dict[Callable[[object, Run], None], str] = {
    broker_down: "the broker is down at send",
    broker_forgets: "the broker loses its memory",
    sender_killed: "the sender is killed at any line",
    worker_killed: "the worker is killed in the receiver",
    delivered_twice: "each message is delivered twice",
}


@pytest.mark.parametrize(
    "fault", scaled([broker_forgets], FAULTS), ids=lambda fault: fault.__name__
)
@pytest.mark.parametrize("mode", ["by_hand", "once"])
def test_what_durable_prevents(rig, ledger, fault, mode) -> None:
    """By hand each of the faults loses events, or has their effects twice."""
    run = Run(f"control: {FAULTS[fault]}", mode)
    fault(rig, run)
    rig.worker()
    if mode == "once":
        let_time_pass(ledger)
        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
    else:
        wait_until(lambda: rig.messages() == 0, what="the end of the queue")
        last = Run("the last one", mode)
        last.send(range(20))
        last.wait_until_delivered()
        tally = run.tally()
        assert tally.lost + tally.twice > 0
