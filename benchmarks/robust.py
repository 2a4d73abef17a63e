"""
What ``robust=True`` costs where nothing fails: ``python -m benchmarks.robust``.

The same receiver twice, plain and robust, in rounds that alternate, on Redis and PostgreSQL: at the
sender, and in a real worker with two processes until it has run what was sent. One receiver is the
reference case, which fetches the row that was saved, and another mails the admins, too, to a real
mail server on this machine; it is left out where aiosmtpd is not installed.

``--keep-connections``: on a site that lets Celery keep Django's connections, by
``CELERY_DB_REUSE_MAX``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS, EVENTS = 41, 100
NAME = f"async_signals_benchmark_{os.getpid()}"
PATIENCE = 120  # Seconds for each round.

#: By side, what each of its rounds has taken.
Taken = dict[str, list[float]]


def main() -> None:
    told = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    told.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    told.bind(("127.0.0.1", 0))
    told.settimeout(PATIENCE)
    where = {"name": NAME, "port": told.getsockname()[1], "mail": free_port()}
    if "--keep-connections" in sys.argv[1:]:
        where["reuse"] = 1_000_000
    os.environ["ASYNC_SIGNALS_BENCHMARK"] = json.dumps(where)
    server = psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True)
    server.execute(f"CREATE DATABASE {NAME}")
    try:
        with mail_server(where["mail"]) as mails:
            measure(told, mails=mails)
    finally:
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextlib.contextmanager
def mail_server(port: int) -> Iterator[bool]:
    """Take mails and throw them away; yields whether there is such a server."""
    if importlib.util.find_spec("aiosmtpd") is None:
        print("aiosmtpd is not installed: the receiver that mails is left out.")
        yield False
        return
    command = f"aiosmtpd -n -l 127.0.0.1:{port} -c aiosmtpd.handlers.Sink"
    server = subprocess.Popen([sys.executable, "-m", *command.split()])
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield True
    finally:
        server.terminate()
        server.wait(30)


def measure(told: socket.socket, *, mails: bool) -> None:
    from benchmarks import site  # It configures Django, before anything else of it is imported.

    # isort: split
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    user = User.objects.create(username="ann")
    command = "celery -A benchmarks.site worker -c 2 -l ERROR --without-gossip --without-mingle"
    worker = subprocess.Popen([sys.executable, "-m", *command.split()], stdin=subprocess.DEVNULL)
    sides = {"does nothing": {"plain": site.plain_sent, "robust": site.robust_sent}}
    if mails:
        sides["mails the admins"] = {"plain": site.plain_to_mail, "robust": site.robust_to_mail}
    try:
        print(
            f"| {EVENTS} deliveries, median of {ROUNDS} rounds | plain | robust | robust / plain |"
        )
        print("| --- | --- | --- | --- |")
        for receiver, signals in sides.items():
            sent, run = rounds(signals, user, told)
            print_ratios(f"sender, receiver that {receiver}", sent)
            print_ratios(f"worker, receiver that {receiver}", run)
    finally:
        worker.terminate()
        worker.wait(30)
        site.app.control.purge()
        connection.close()


def rounds(signals, user, told: socket.socket) -> tuple[Taken, Taken]:
    """Send in each side's turn; return the seconds of each round, of sender and worker."""
    from django.contrib.auth.models import User
    from django.db import transaction

    sent: Taken = {name: [] for name in signals}
    run: Taken = {name: [] for name in signals}
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
    return sent, run


def print_ratios(what: str, seconds: Taken) -> None:
    each = {name: statistics.median(values) / EVENTS * 1e6 for name, values in seconds.items()}
    ratios = [r / p for r, p in zip(seconds["robust"], seconds["plain"], strict=True)]
    print(
        f"| {what}, microseconds each | {each['plain']:.0f} | {each['robust']:.0f} "
        f"| {statistics.median(ratios):.2f} |"
    )


if __name__ == "__main__":
    main()
