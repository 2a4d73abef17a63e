"""
What ``robust=True`` costs where nothing fails: ``python -m benchmarks.robust``.

The same receiver twice, plain and robust, in rounds that alternate, on Redis and PostgreSQL: at the
sender, and in a real worker with two processes until it has run what was sent. The receiver is the
reference case, which fetches the row that was saved.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time

import psycopg

ROUNDS, EVENTS = 9, 300
NAME = f"async_signals_benchmark_{os.getpid()}"
PATIENCE = 120  # Seconds for each round.


def main() -> None:
    told = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    told.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    told.bind(("127.0.0.1", 0))
    told.settimeout(PATIENCE)
    where = {"name": NAME, "port": told.getsockname()[1]}
    os.environ["ASYNC_SIGNALS_BENCHMARK"] = json.dumps(where)
    server = psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True)
    server.execute(f"CREATE DATABASE {NAME}")
    try:
        measure(told)
    finally:
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def measure(told: socket.socket) -> None:
    from benchmarks import site  # It configures Django, before anything else of it is imported.

    # isort: split
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection, transaction

    call_command("migrate", verbosity=0)
    user = User.objects.create(username="ann")
    command = "celery -A benchmarks.site worker -c 2 -l ERROR --without-gossip --without-mingle"
    worker = subprocess.Popen([sys.executable, "-m", *command.split()], stdin=subprocess.DEVNULL)
    signals = {"plain": site.plain_sent, "robust": site.robust_sent}
    sent: dict[str, list[float]] = {name: [] for name in signals}
    run: dict[str, list[float]] = {name: [] for name in signals}
    try:
        for number in range(ROUNDS + 1):
            for name in sorted(signals, reverse=bool(number % 2)):
                started = time.perf_counter()
                with transaction.atomic():
                    for _ in range(EVENTS):
                        signals[name].send(User, instance=user)
                sending = time.perf_counter() - started
                told.recv(100)
                started = time.perf_counter()
                for _ in range(EVENTS - 1):
                    told.recv(100)
                if number:  # The first round warms up.
                    sent[name].append(sending)
                    run[name].append(time.perf_counter() - started)
    finally:
        worker.terminate()
        worker.wait(30)
        site.app.control.purge()
        connection.close()
    print(f"| {EVENTS} deliveries, median of {ROUNDS} rounds | plain | robust | robust / plain |")
    print("| --- | --- | --- | --- |")
    for what, seconds in (("sender", sent), ("worker", run)):
        each = {name: statistics.median(values) / EVENTS * 1e6 for name, values in seconds.items()}
        ratios = [r / p for r, p in zip(seconds["robust"], seconds["plain"], strict=True)]
        print(
            f"| {what}, microseconds each | {each['plain']:.0f} | {each['robust']:.0f} "
            f"| {statistics.median(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
