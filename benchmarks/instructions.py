"""
What a durable receiver costs the sender, counted: ``python -m benchmarks.instructions``.

The instructions of the sender's process for each of a thousand saves in one transaction, as
valgrind counts them: the same on a busy machine and on a quiet one, which microseconds are not.
What the database does, and what waiting for it takes, is not in it. Needs valgrind.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import subprocess
import sys

import psycopg

SIDES = ("the saves alone", "durable")
SAVES, WARM = 1_000, 300
NAME = f"async_signals_benchmark_{os.getpid()}"
COUNT = (
    "valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file=/dev/null "
    f"-- {sys.executable} -m benchmarks.instructions"
)


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("cannot count instructions: expected valgrind on the PATH. Install it.")
    told = {"name": NAME, "port": 9, "apps": []}
    os.environ |= {"ASYNC_SIGNALS_BENCHMARK": json.dumps(told), "PYTHONHASHSEED": "0"}
    server = psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True)
    server.execute(f"CREATE DATABASE {NAME}")
    try:
        subprocess.run([sys.executable, "-m", "benchmarks.instructions", "migrate"], check=True)
        print(f"| {SAVES} saves in a transaction | instructions each | more than the saves |")
        print("| --- | ---: | ---: |")
        alone = 0.0
        for side in SIDES:
            each = counted(side) / SAVES
            alone = alone or each
            print(f"| {side} | {each:,.0f} | {each / alone - 1:.1%} |")
    finally:
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def counted(side: str) -> int:
    """Return the instructions of the saves in a process of their own."""
    ran = subprocess.run([*COUNT.split(), side], capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", ran.stderr)
    if found is None:
        sys.exit(f"cannot count instructions: expected valgrind to tell them, got: {ran.stderr}")
    return int(found[1])


def run(side: str) -> None:
    """Save as often as warms Python up, and then with each instruction counted."""
    from benchmarks import durable, site

    # isort: split
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection, transaction

    if side == "migrate":
        call_command("migrate", verbosity=0)
        return
    with durable.sides_of(site, [])[side]():
        for number in (WARM, SAVES):
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {', '.join(durable.TABLES)} CASCADE")
            gc.collect()
            gc.freeze()  # What was there before is not looked at again, or not, by chance.
            counts = counting() if number == SAVES else contextlib.nullcontext()
            with counts, transaction.atomic():
                for each in range(number):
                    User(username=f"user {each}").save()
    site.app.control.purge()


@contextlib.contextmanager
def counting():
    control = ["callgrind_control", str(os.getpid()), "-i"]
    subprocess.run([*control, "on"], check=True, stdout=subprocess.DEVNULL)
    yield
    subprocess.run([*control, "off"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    run(sys.argv[1]) if sys.argv[1:] else main()
