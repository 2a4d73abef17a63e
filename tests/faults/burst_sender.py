"""A sender of large transactions, in a process of its own that says what each has cost."""

from __future__ import annotations

import itertools
import json
import re
import signal
import sys
from pathlib import Path

import django
from redis.connection import AbstractConnection

#: Requests to Redis: a pipeline is one, however many commands are in it. To look at it counts, too.
requests = itertools.count()


def count_requests() -> None:
    """Let each request that leaves this process count."""
    original = AbstractConnection.send_packed_command

    def counted(self, *args, **kwargs):
        next(requests)
        return original(self, *args, **kwargs)

    AbstractConnection.send_packed_command = counted


def peak() -> float:
    """Return the largest memory that this process ever had, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def send(mode: str, using: str, size: str, *runs: str) -> None:
    """Send a transaction of *size* events for each of *runs*, each when a signal says so."""
    from .oracle import Run

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    Run("the first", mode, id=runs[0], using=using).send([0])  # Connects.
    print(f"sender ready. {json.dumps({'peak': peak()})}", flush=True)
    for chunk, run in enumerate(runs):
        signal.sigwait({signal.SIGUSR1})
        before = next(requests)
        first = 1 + chunk * int(size)
        Run("a chunk", mode, id=run, using=using).send_at_once(range(first, first + int(size)))
        told = {"peak": peak(), "requests": next(requests) - before - 1}
        print(f"chunk {chunk}: {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    count_requests()
    django.setup()
    send(*sys.argv[1:])
