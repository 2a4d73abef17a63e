"""
Everything at random: senders, workers, relays, brokers and the database die while events flow.

    python -m tests.faults.chaos --seconds 600 --events 10000 --seed 7

Redis, which keeps nothing on disk, RabbitMQ and PostgreSQL are servers of its own. One ledger has
both brokers: a sender, a worker and a relay are at each, and what one broker has lost is published
again by whoever finds it, perhaps to the other one. It goes on until so many events are committed
and the seconds are over. What was committed is what the database says afterwards; what was
delivered is compared with it, event by event.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from .chaos_sender import MODES, USING
from .servers import PrivatePostgreSQL, PrivateRabbitMQ, PrivateRedis, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worker import Process

    from .oracle import Tally

#: An event may be worked at many times before it has had luck.
SETTINGS = {
    "LEASE": 2, "RELAY_INTERVAL": 0.2, "RETRY_RATE": 10_000, "MAX_DEATHS": 10_000,
    "PUBLISH_TIMEOUT": 1,
}  # fmt: skip
#: Numbers of one life of a sender.
LIFE = 1_000_000
#: Events to send for each that is to be committed in time: some are rolled back, and senders that
#: are dead, or have no database, send none.
SURPLUS = 1.75


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What it all came to."""

    seed: int
    asked: int  #: Events that were to be committed.
    seconds: float  #: How long it went on.
    sent: int
    tallies: dict[str, Tally]
    for_a_person: int  #: Deliveries that had failed too often, and were retried at the end.
    unfinished: dict[str, int]  #: Rows that have not succeeded, by their state.
    faults: dict[str, int]

    @property
    def committed(self) -> int:
        return sum(each.committed for each in self.tallies.values())

    @property
    def is_well(self) -> bool:
        tallies = self.tallies.values()
        harm = sum(each.lost + each.rolled_back for each in tallies) + self.tallies["once"].twice
        return not harm and not self.unfinished and self.committed >= self.asked

    def __str__(self) -> str:
        once, durable = self.tallies["once"], self.tallies["durable"]
        return (
            f"28 chaos, seed {self.seed}: in {self.seconds:.0f} s sent {self.sent}, committed "
            f"{self.committed} of {self.asked} that were asked for, delivered "
            f"{once.delivered + durable.delivered}, lost {once.lost + durable.lost}, delivered "
            f"though rolled back {once.rolled_back + durable.rolled_back}, applied twice in the "
            f"database {once.twice} of {once.committed}; run again outside of it {durable.twice} "
            f"of {durable.committed}; longest stall {max(once.stall, durable.stall):.0f} s; "
            f"retried by a person {self.for_a_person}; unfinished rows {self.unfinished or 0}; "
            f"faults {self.faults}"
        )


class Chaos:
    """The processes, what may happen to them, and what has."""

    def __init__(
        self, seed: int, rate: float, folder: Path, rabbitmq: PrivateRabbitMQ | None
    ) -> None:
        self._chance = random.Random(seed)
        self._rate = rate
        self._folder = folder
        # What looks for servers, as the settings do when they are imported, is to find this one.
        self._database = PrivatePostgreSQL(int(os.environ["ASYNC_SIGNALS_TEST_POSTGRESQL_PORT"]))
        self._redis = PrivateRedis(folder)
        self._rabbitmq = rabbitmq  #: None: the one of this machine, which is not to be killed.
        from tests.testproject.brokers import rabbitmq_broker, redis_broker

        # Of this run only: the machine's own RabbitMQ has other queues.
        name = f"chaos-{uuid.uuid4().hex[:8]}"
        port = None if rabbitmq is None else rabbitmq.port
        self._brokers = {
            "at Redis": dataclasses.replace(redis_broker(self._redis.port), queue=name),
            "at RabbitMQ": dataclasses.replace(rabbitmq_broker(port), queue=name),
        }
        self._processes: dict[str, Process] = {}
        self._lives = 0
        self.seconds = 0.0  #: How long things have happened.
        self.faults: collections.Counter[str] = collections.Counter()

    def prepare(self) -> None:
        """Make the tables; from here on the models can be used."""
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", database=USING, run_syncdb=True, verbosity=0)

        from .oracle import Run

        self.runs = {mode: Run("28 chaos", mode, using=USING) for mode in MODES}

    def start_all(self) -> None:
        for kind in ("worker", "relay", "sender"):
            for place in self._brokers:
                self._start(f"{kind} {place}")

    def _start(self, name: str) -> None:
        from tests.worker import COMMAND, Process

        self._lives += 1
        kind, _, place = name.partition(" ")
        broker = self._brokers[place]
        env = {
            "ASYNC_SIGNALS_TEST_BROKER": broker.url,
            "ASYNC_SIGNALS_TEST_QUEUE": broker.queue,
            "ASYNC_SIGNALS_TEST_TRANSPORT_OPTIONS": json.dumps(broker.transport_options),
            "ASYNC_SIGNALS_TEST_LEDGER": USING,
            "ASYNC_SIGNALS_TEST_SETTINGS": json.dumps(
                {**SETTINGS, "SPOOL": str(self._folder / "spool")}
            ),
        }
        if kind == "worker":
            command = [*COMMAND.split(), "-n", f"chaos-{self._lives}@%h"]
        elif kind == "relay":
            command = ["tests.faults.program", "relay"]
        else:
            runs = [self.runs[mode].id for mode in MODES]
            seed = str(self._chance.randrange(10**6))
            life = str(self._lives * LIFE)
            command = ["tests.faults.chaos_sender", life, seed, str(self._rate / 2), *runs]
        # Not until it is ready: a broker or a database may be away now.
        self._processes[name] = Process(*command, ready="", **env)

    def go_on(self, seconds: float, events: int, extension: float) -> None:
        """
        Let one thing after another happen, until *seconds* are over and *events* are committed.

        After *extension* seconds more it ends in any case.
        """
        happenings: dict[str, tuple[int, Callable[[], bool | None]]] = {
            "sender killed": (4, lambda: self._replace("sender")),
            "worker killed": (4, lambda: self._replace("worker")),
            "worker terminated": (2, self._terminate_worker),
            "child of a worker killed": (4, self._kill_child),
            "worker stalled past its lease": (3, lambda: self._stall("worker")),
            "relay killed": (3, lambda: self._replace("relay")),
            "relay stalled": (2, lambda: self._stall("relay")),
            "Redis restarted empty": (3, self._restart_redis),
            "Redis flushed": (2, self._redis.client.flushall),
            "RabbitMQ killed": (3, self._kill_rabbitmq),
            "PostgreSQL crashed": (2, self._crash_database),
            "connections of PostgreSQL cut": (3, self._cut_database),
        }
        if self._rabbitmq is None:
            del happenings["RabbitMQ killed"]
        self.faults.update(dict.fromkeys(happenings, 0))
        names = list(happenings)
        weights = [weight for weight, _ in happenings.values()]
        started = time.monotonic()
        # Each once, in any order, and from then on whatever comes.
        first = self._chance.sample(names, len(names))
        while self.seconds < seconds or (
            self.seconds < seconds + extension and self._committed() < events
        ):
            what = first.pop() if first else self._chance.choices(names, weights)[0]
            if happenings[what][1]() is not False:
                self.faults[what] += 1
            time.sleep(self._chance.uniform(0.1, 1.5))
            self._look_after()
            self.seconds = time.monotonic() - started

    def _committed(self) -> int:
        """Return how many events are; 0 where nobody can tell now."""
        from django.db import Error, connections

        from tests.testapp.models import Sent

        try:
            return Sent.objects.using(USING).count()
        except Error:
            return 0
        finally:
            connections[USING].close()

    def _look_after(self) -> None:
        """Start again what has ended by itself, as a supervisor does."""
        for name, process in list(self._processes.items()):
            if not process.is_alive:
                self._replace_ended(name)
        if self._rabbitmq is not None and not self._rabbitmq.is_alive:
            self._rabbitmq.start(wait=False)

    def _one(self, kind: str) -> str:
        return self._chance.choice([name for name in self._processes if name.startswith(kind)])

    def _replace(self, kind: str) -> None:
        name = self._one(kind)
        self._processes[name].kill()
        time.sleep(self._chance.uniform(0, 1))
        self._start(name)

    def _terminate_worker(self) -> None:
        """As a deployment does: it is given a moment, and killed then."""
        name = self._one("worker")
        self._processes[name].terminate()
        time.sleep(self._chance.uniform(0, 2))
        self._replace_ended(name)

    def _replace_ended(self, name: str) -> None:
        process = self._processes[name]
        if process.is_alive:
            process.kill()
        process.close()
        self._start(name)

    def _kill_child(self) -> None:
        import psutil

        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self._processes[self._one("worker")].pid).children()
            if children:
                self._chance.choice(children).kill()

    def _stall(self, kind: str) -> None:
        process = self._processes[self._one(kind)]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(1, 2 * SETTINGS["LEASE"]))
            os.killpg(process.pid, signal.SIGCONT)

    def _restart_redis(self) -> None:
        self._redis.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._redis.start()

    def _kill_rabbitmq(self) -> bool:
        """It takes seconds to come back, in which other things happen; False: it was not there."""
        if self._rabbitmq is None or not self._rabbitmq.is_up:
            return False
        self._rabbitmq.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._rabbitmq.start(wait=False)
        return True

    def _crash_database(self) -> None:
        self._database.stop()
        time.sleep(self._chance.uniform(0, 2))
        self._database.start()

    def _cut_database(self) -> None:
        from django.db import Error, connections

        with contextlib.suppress(Error), connections[USING].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connections[USING].close()

    def end(self, seed: int, asked: int, patience: float) -> Result:
        """Let the dust settle, and count."""
        from django.db import connections
        from django.db.models.functions import Now

        from async_signals import operations, stats
        from async_signals.models import Delivery

        for name in [name for name in self._processes if name.startswith("sender")]:
            self._processes.pop(name).kill()
        self._look_after()
        if self._rabbitmq is not None:
            self._rabbitmq.wait()
        connections[USING].close()  # A crash of the server may have cut it.
        unfinished = Delivery.objects.using(USING).exclude(state="succeeded")
        failed = unfinished.filter(state="failed")
        deadline, for_a_person, before = time.monotonic() + patience, 0, -1
        while (left := unfinished.count()) and time.monotonic() < deadline:
            if left == before:  # Nobody is at work: what was published is lost.
                unfinished.filter(state="published").update(due_at=Now())
            before = left
            if failed.exists():
                for_a_person += failed.count()
                operations.retry(stats.Filter(state="failed"), by="chaos")
            time.sleep(3)
            self._look_after()
        sent = (self._folder / "sent").stat().st_size
        tallies = {mode: run.tally() for mode, run in self.runs.items()}
        states = collections.Counter(unfinished.values_list("state", flat=True))
        return Result(
            seed=seed,
            asked=asked,
            seconds=self.seconds,
            sent=sent,
            tallies=tallies,
            for_a_person=for_a_person,
            unfinished=dict(states),
            faults=dict(self.faults),
        )

    def close(self) -> None:
        for process in self._processes.values():
            if process.is_alive:
                process.kill()
            process.close()
        if self._rabbitmq is None:
            self._brokers["at RabbitMQ"].clean()
        self._redis.kill()
        self._database.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--events", type=int, default=10_000, help="that are committed, at least")
    parser.add_argument("--extension", type=float, help="seconds to wait for them, else as many")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--patience", type=float, default=600, help="seconds for what is left over")
    parser.add_argument(
        "--spare-rabbitmq", action="store_true", help="take the one of this machine, do not kill it"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    os.environ["ASYNC_SIGNALS_TEST_POSTGRESQL_PORT"] = str(free_port())
    # None of it: Django 6.1 lets no worker start that cannot reach each of its databases.
    os.environ["ASYNC_SIGNALS_TEST_MARIADB_PORT"] = str(free_port())
    os.environ["ASYNC_SIGNALS_TEST_LEDGER"] = USING
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.testproject.settings")
    rate = SURPLUS * options.events / options.seconds
    extension = options.seconds if options.extension is None else options.extension
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-chaos-"))
        os.environ["ASYNC_SIGNALS_TEST_FOLDER"] = folder
        rabbitmq = None
        if not options.spare_rabbitmq:
            rabbitmq = PrivateRabbitMQ()
            stack.callback(rabbitmq.close)
        chaos = Chaos(options.seed, rate, Path(folder), rabbitmq)
        stack.callback(chaos.close)
        chaos.prepare()
        chaos.start_all()
        chaos.go_on(options.seconds, options.events, extension)
        result = chaos.end(options.seed, options.events, options.patience)
    print(result, flush=True)
    return 0 if result.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
