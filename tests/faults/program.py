"""Processes without Celery's worker: a relay by itself, and a sender that can be killed."""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback

import django


def relay(once: str = "") -> None:
    """Relay until told to end, as ``manage.py async_signals relay`` does."""
    from async_signals import relay

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *args: stop.set())
    print("relay ready.", flush=True)
    print(f"relayed {relay.run(stop, once=bool(once)).published}", flush=True)


def send(run: str, mode: str, using: str, first: str, count: str) -> None:
    """Send numbered events when a signal says so, and wait to be killed."""
    from tests.faults.oracle import Run

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    Run("sender", mode, id=run, using=using).committed  # Connects.  # noqa: B018
    print("sender ready.", flush=True)
    signal.sigwait({signal.SIGUSR1})
    Run("sender", mode, id=run, using=using).send(range(int(first), int(first) + int(count)))
    print("sent all", flush=True)
    while True:
        signal.pause()


def ledger(what: str, **options: object) -> None:
    """Carry out one operation on the ledger again and again until told to end."""
    from async_signals import operations, stats

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *args: stop.set())
    print("operator ready.", flush=True)
    rounds = 0
    while not stop.is_set():
        try:
            if what == "prune":
                operations.prune(by="test")
            else:
                operations.retry(stats.Filter(state="failed"), by="test")
        except Exception:
            traceback.print_exc()
            print("operator failed", flush=True)
        rounds += 1
        stop.wait(0.05)
    print(f"rounds {json.dumps(rounds)}", flush=True)


if __name__ == "__main__":
    django.setup()
    {"relay": relay, "send": send, "ledger": ledger}[sys.argv[1]](*sys.argv[2:])
