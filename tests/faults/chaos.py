"""
Everything at random: senders, workers, relays, the broker and the database die while events flow.

    python -m tests.faults.chaos --seconds 600 --events 10000 --seed 7

Redis, which keeps nothing on disk, and PostgreSQL are servers of its own. What was committed is
what the database says afterwards; what was delivered is compared with it, event by event.
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
from pathlib import Path
from typing import TYPE_CHECKING

from .chaos_sender import MODES, USING
from .servers import PrivatePostgreSQL, PrivateRedis, free_port

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


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What it all came to."""

    seed: int
    sent: int
    tallies: dict[str, Tally]
    for_a_person: int  #: Deliveries that had failed too often, and were retried at the end.
    unfinished: dict[str, int]  #: Rows that have not succeeded, by their state.
    faults: dict[str, int]

    @property
    def is_well(self) -> bool:
        tallies = self.tallies.values()
        harm = sum(each.lost + each.rolled_back for each in tallies) + self.tallies["once"].twice
        return not harm and not self.unfinished

    def __str__(self) -> str:
        once, durable = self.tallies["once"], self.tallies["durable"]
        return (
            f"28 chaos, seed {self.seed}: sent {self.sent}, committed "
            f"{once.committed + durable.committed}, delivered "
            f"{once.delivered + durable.delivered}, lost {once.lost + durable.lost}, delivered "
            f"though rolled back {once.rolled_back + durable.rolled_back}, applied twice in the "
            f"database {once.twice}; run again outside of it {durable.twice}; retried by a person "
            f"{self.for_a_person}; unfinished rows {self.unfinished or 0}; faults {self.faults}"
        )


class Chaos:
    """The processes, what may happen to them, and what has."""

    def __init__(self, seed: int, rate: float, folder: Path) -> None:
        self._chance = random.Random(seed)
        self._rate = rate
        self._folder = folder
        self._database = PrivatePostgreSQL(int(os.environ["ASYNC_SIGNALS_TEST_POSTGRESQL_PORT"]))
        self._broker = PrivateRedis(folder)
        self._processes: dict[str, Process] = {}
        self._lives = 0
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
        for name in ("worker 1", "worker 2", "relay", "sender 1", "sender 2"):
            self._start(name)

    def _start(self, name: str) -> None:
        from tests.worker import COMMAND, Process

        self._lives += 1
        env = {
            "ASYNC_SIGNALS_TEST_BROKER": f"redis://127.0.0.1:{self._broker.port}/9",
            "ASYNC_SIGNALS_TEST_QUEUE": "chaos",
            "ASYNC_SIGNALS_TEST_LEDGER": USING,
            "ASYNC_SIGNALS_TEST_SETTINGS": json.dumps(
                {**SETTINGS, "SPOOL": str(self._folder / "spool")}
            ),
        }
        if name.startswith("worker"):
            command = [*COMMAND.split(), "-n", f"chaos-{self._lives}@%h"]
        elif name == "relay":
            command = ["tests.faults.program", "relay"]
        else:
            runs = [self.runs[mode].id for mode in MODES]
            seed = str(self._chance.randrange(10**6))
            life = str(self._lives * LIFE)
            command = ["tests.faults.chaos_sender", life, seed, str(self._rate / 2), *runs]
        # Not until it is ready: a broker or a database may be away now.
        self._processes[name] = Process(*command, ready="", **env)

    def go_on_for(self, seconds: float) -> None:
        """Let one thing after another happen."""
        happenings: dict[str, tuple[int, Callable[[], None]]] = {
            "sender killed": (4, lambda: self._replace("sender")),
            "worker killed": (4, lambda: self._replace("worker")),
            "worker terminated": (2, self._terminate_worker),
            "child of a worker killed": (4, self._kill_child),
            "worker stalled past its lease": (3, lambda: self._stall("worker")),
            "relay killed": (3, lambda: self._replace("relay")),
            "relay stalled": (2, lambda: self._stall("relay")),
            "Redis restarted empty": (3, self._restart_broker),
            "Redis flushed": (2, self._broker.client.flushall),
            "PostgreSQL crashed": (2, self._crash_database),
            "connections of PostgreSQL cut": (3, self._cut_database),
        }
        names = list(happenings)
        weights = [weight for weight, _ in happenings.values()]
        end = time.monotonic() + seconds
        # Each once, in any order, and from then on whatever comes.
        first = self._chance.sample(names, len(names))
        while time.monotonic() < end:
            what = first.pop() if first else self._chance.choices(names, weights)[0]
            happenings[what][1]()
            self.faults[what] += 1
            time.sleep(self._chance.uniform(0.1, 1.5))

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

    def _restart_broker(self) -> None:
        self._broker.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._broker.start()

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

    def end(self, seed: int, patience: float) -> Result:
        """Let the dust settle, and count."""
        from django.db import connections

        from async_signals import operations, stats
        from async_signals.models import Delivery

        from .oracle import let_time_pass

        for name in [name for name in self._processes if name.startswith("sender")]:
            self._processes.pop(name).kill()
        for name in list(self._processes):
            if not self._processes[name].is_alive:
                self._replace_ended(name)
        connections[USING].close()  # A crash of the server may have cut it.
        unfinished = Delivery.objects.using(USING).exclude(state="succeeded")
        failed = unfinished.filter(state="failed")
        deadline, for_a_person, before = time.monotonic() + patience, 0, -1
        while (left := unfinished.count()) and time.monotonic() < deadline:
            if left == before:  # Nobody is at work: what was published is lost.
                let_time_pass(USING)
            before = left
            if failed.exists():
                for_a_person += failed.count()
                operations.retry(stats.Filter(state="failed"), by="chaos")
            time.sleep(3)
        sent = (self._folder / "sent").stat().st_size
        tallies = {mode: run.tally() for mode, run in self.runs.items()}
        states = collections.Counter(unfinished.values_list("state", flat=True))
        return Result(seed, sent, tallies, for_a_person, dict(states), dict(self.faults))

    def close(self) -> None:
        for process in self._processes.values():
            if process.is_alive:
                process.kill()
            process.close()
        self._broker.kill()
        self._database.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--patience", type=float, default=180)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    os.environ["ASYNC_SIGNALS_TEST_POSTGRESQL_PORT"] = str(free_port())
    # None of it: Django 6.1 lets no worker start that cannot reach each of its databases.
    os.environ["ASYNC_SIGNALS_TEST_MARIADB_PORT"] = str(free_port())
    os.environ["ASYNC_SIGNALS_TEST_LEDGER"] = USING
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.testproject.settings")
    with tempfile.TemporaryDirectory(prefix="faults-chaos-") as folder:
        os.environ["ASYNC_SIGNALS_TEST_FOLDER"] = folder
        chaos = Chaos(options.seed, options.events / options.seconds, Path(folder))
        try:
            chaos.prepare()
            chaos.start_all()
            chaos.go_on_for(options.seconds)
            result = chaos.end(options.seed, options.patience)
        finally:
            chaos.close()
    print(result, flush=True)
    return 0 if result.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
