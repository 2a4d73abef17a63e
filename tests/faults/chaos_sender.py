"""A sender that does all that senders do, until it is killed."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import django

__all__ = ["MODES", "USING"]

USING = "postgresql"
#: What the events are for: rows that are counted, and effects outside the database.
MODES = ("once", "durable")


def send(life: str, seed: str, rate: str, *runs: str) -> None:
    """Send *rate* events a second, some in transactions that are rolled back, until killed."""
    django.setup()

    from django.db import Error, connections, transaction

    from async_signals.sending import bundling

    from .oracle import Run, UndoneError

    bundling.FEW = 9
    chance = random.Random(seed)
    all_runs = [
        Run("chaos", mode, id=run, using=USING) for mode, run in zip(MODES, runs, strict=True)
    ]
    number = int(life)
    count = os.open(
        Path(os.environ["ASYNC_SIGNALS_TEST_FOLDER"]) / "sent",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o600,
    )
    orders: list[Any] = [(), (), (), (), (), ["wait:0.3"], ["effect wait:0.3"], ["raise"]]
    print("sender ready.", flush=True)
    began = time.monotonic()
    while True:
        # Now and then so many that those for one receiver are a bundle.
        batch = 30 if chance.random() < 0.05 else chance.choice([1, 1, 2, 5, 10])
        try:
            with transaction.atomic(using=USING):
                for _ in range(batch):
                    number += 1
                    os.write(count, b".")
                    with contextlib.suppress(UndoneError), transaction.atomic(using=USING):
                        chance.choice(all_runs).send([number], orders=chance.choice(orders))
                        if chance.random() < 0.15:
                            raise UndoneError
                if chance.random() < 0.15:
                    raise UndoneError
        except (Error, UndoneError):
            connections[USING].close_if_unusable_or_obsolete()
        # What it has missed, as while the database was away, it sends without a pause.
        early = (number - int(life)) / float(rate) - (time.monotonic() - began)
        time.sleep(max(0, early) * chance.uniform(0, 2))


if __name__ == "__main__":
    send(*sys.argv[1:])
