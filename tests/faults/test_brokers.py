"""The broker forgets, dies, or is full."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from async_signals import operations, stats
from async_signals.models import Delivery
from tests.conftest import require

from .oracle import Run, kept, let_time_pass, wait_until
from .scale import DURABLE, in_modes, scaled
from .test_broker_at_send import BOUND

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]


class TestForgetful:
    def test_restarted_without_persistence(self, rig, ledger) -> None:
        """What is in its memory is lost; what waits or has failed is in the ledger."""
        mode = "robust"
        server = rig.redis_server()
        rig.use("redis", server.port)
        worker = rig.worker()
        count = scaled(20, 1_000)
        failing = Run("9 Redis forgets; these had failed before", mode)
        run = Run("9 Redis forgets what lay in it", mode)
        failing.send(range(5), orders=["raise"] * 4)
        failed = Delivery.objects.using(ledger).filter(state="failed")
        wait_until(lambda: failed.count() == 5, what="the failure of all five")
        worker.kill()
        run.send(range(count))
        server.kill()
        run.send(range(count, 2 * count))
        server.start()
        rig.worker()

        wait_until(lambda: len(run.delivered) == count, what="the delivery of what was kept")
        operations.retry(stats.Filter(state="failed"), by="test")
        failing.wait_until_delivered()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (count, 0)
        assert run.delivered == set(range(count, 2 * count))
        tally = failing.tally()
        assert (tally.lost, tally.twice) == (0, 0)

    @in_modes("durable", of=DURABLE)
    def test_all_of_it_is_in_the_ledger(self, rig, mode, ledger) -> None:
        """What lay in its memory is published again when its time has come."""
        server = rig.redis_server()
        rig.use("redis", server.port)
        count = scaled(50, 10_000)
        run, control = Run("9 Redis forgets it all", mode), Run("9 Redis forgets it all", "plain")
        run.send(range(count))
        control.send(range(5))
        server.kill()
        run.send(range(count, count + 10))
        server.start()
        assert Delivery.objects.using(ledger).filter(state="published").count() == count
        let_time_pass(ledger)
        rig.worker()

        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (count + 10, 0, 0)
        assert control.tally().lost == 5


class TestRestarted:
    """A node of RabbitMQ of this test's own."""

    @in_modes("durable")
    def test_a_node_that_dies_and_one_that_blocks(self, rig, mode, told) -> None:
        """SIGKILL, and no space left on its disk: it takes nothing more, and says so."""
        server = rig.rabbitmq_server()
        rig.use("rabbitmq", server.port)
        count = scaled(20, 3_000)
        run, control = Run("10 RabbitMQ is killed, and blocks", mode), Run("10 blocked", "plain")
        run.send(range(count))
        server.kill()
        run.send(range(count, 2 * count))
        server.start()
        run.send(range(2 * count, 3 * count))
        server.control("set_disk_free_limit", str(10**15))
        run.send(range(3 * count, 3 * count + 2))
        run.send(range(3 * count + 2, 4 * count), together=True)
        control.send(range(5), together=True)
        server.control("set_disk_free_limit", str(10**6))
        assert told(logging.ERROR), "the control was taken"
        rig.worker()

        run.wait_until_delivered(scaled(60, 900))
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.rolled_back) == (4 * count, 0, 0)
        assert tally.twice == 0
        assert run.slowest < BOUND


class TestFull:
    @in_modes("durable")
    def test_rabbitmq_refuses_what_is_too_much(self, rig, mode, told) -> None:
        """A queue at its limit: the broker says no to each message, and it is kept."""
        require("rabbitmq")
        if shutil.which("rabbitmqctl") is None:
            pytest.skip("no rabbitmqctl to set a policy with")
        broker = rig.use("rabbitmq")
        run, control = Run("10 RabbitMQ refuses", mode), Run("10 RabbitMQ refuses", "plain")
        count = scaled(50, 10_000)
        run.send([0])
        limits = '{"max-length": 1, "overflow": "reject-publish"}'
        name, pattern = broker.queue, f"^{broker.queue}$"
        with policy(rig, name, pattern, limits):
            run.send(range(1, count // 2))
            run.send(range(count // 2, count), together=True)
            control.send(range(5))
        assert kept(told) >= count - 2
        rig.worker()

        run.wait_until_delivered(scaled(30, 600))
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        assert control.tally().lost == 5

    @in_modes("durable")
    def test_redis_is_out_of_memory(self, rig, mode, told) -> None:
        """``maxmemory`` with ``noeviction``: an error at LPUSH, and all of it is kept."""
        server = rig.redis_server("--maxmemory-policy", "noeviction")
        rig.use("redis", server.port)
        worker = rig.worker()
        run, control = Run("11 Redis is full", mode), Run("11 Redis is full", "plain")
        count = scaled(50, 10_000)
        run.send(range(10))
        run.wait_until_delivered()
        # The worker of Celery ends over an acknowledgement that meets a full Redis.
        unacked = f"{rig.broker.transport_options['global_keyprefix']}unacked"
        wait_until(lambda: not server.client.hlen(unacked), what="the last acknowledgement")
        server.client.config_set("maxmemory", 1)
        run.send(range(10, count // 2))
        run.send(range(count // 2, count), together=True)
        control.send(range(5))
        assert any("maxmemory" in message for message in told(logging.WARNING))
        server.client.config_set("maxmemory", 0)

        run.wait_until_delivered(scaled(30, 600))
        assert worker.is_alive, worker.output
        tally = run.tally()
        assert (tally.lost, tally.twice, tally.rolled_back) == (0, 0, 0)
        assert control.tally().lost == 5


@contextlib.contextmanager
def policy(rig, name: str, pattern: str, limits: str) -> Iterator[None]:
    """A limit for one queue of this test's own; it holds inside the block."""
    command = ["rabbitmqctl", "-q"]
    subprocess.run(
        [*command, "set_policy", "--apply-to", "queues", name, pattern, limits],
        check=True,
        timeout=60,
    )
    try:
        yield
    finally:
        subprocess.run([*command, "clear_policy", name], check=True, timeout=60)
