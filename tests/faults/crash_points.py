"""
Senders that die by SIGKILL at one boundary of the code each, between the insert and the publish.

One process is warmed up and forks a child for each boundary. The child opens connections of its
own, sends one event in a transaction, or so many that they are a bundle, and kills itself when it
comes to the boundary that is its own. Boundaries are those between lines, or between instructions,
of what runs from the beginning of the transaction to the end of the publish: in this package, and
in Django's transactions.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from .oracle import Run

ROOT = Path(__file__).resolve().parents[2]
#: Where a sender may die.
PLACES = (
    f"{ROOT}/async_signals/",
    f"{Path(django.__file__).parent}/db/transaction.py",
    f"{Path(django.__file__).parent}/db/backends/base/base.py",
)
#: Each boundary of this file is tried.
OUTBOX = f"{ROOT}/async_signals/sending/outbox.py"
#: Where a bundle is made: of a large transaction, senders die from here on only.
BUNDLING = f"{ROOT}/async_signals/sending/bundling.py"


class Boundaries:
    """Those that a sender has passed; at the last one it dies."""

    def __init__(self, event: str, last: int | None = None, *, first_in: str = "") -> None:
        self._event = event  #: "line", or "opcode" for each instruction.
        self._last = last
        self._first_in = first_in  #: None is counted before one in this file.
        self.files: list[str] = []

    def trace(self, frame: FrameType, event: str, arg: object):
        """See ``sys.settrace()``."""
        if not frame.f_code.co_filename.startswith(PLACES):
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        place = frame.f_code.co_filename
        is_counted = self.files or place.startswith(self._first_in)
        if event == self._event and is_counted:
            if len(self.files) == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.files.append(place)
        return self.trace


def send(run: Run, numbers: Sequence[int], boundaries: Boundaries, *, undo: bool) -> None:
    """Send in one transaction, in this process."""
    run.committed  # Connects.  # noqa: B018
    sys.settrace(boundaries.trace)
    try:
        run.send_and_undo(numbers) if undo else run.send(numbers, together=True)
    finally:
        sys.settrace(None)


def in_child(
    run: Run, numbers: Sequence[int], event: str, *, undo: bool, last: int | None
) -> list[str]:
    """Send in a child; return the files of the boundaries that it has passed, if it lived."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        first_in = BUNDLING if len(numbers) > 1 else ""
        boundaries = Boundaries(event, last, first_in=first_in)
        try:
            send(run, numbers, boundaries, undo=undo)
            with os.fdopen(writing, "w") as file:
                json.dump(boundaries.files, file)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(pid, 0)
    return json.loads(told) if told else []


def die_everywhere(run: Run, *, sample: int | None, many: int) -> dict[str, int]:
    """
    Send for each boundary, in a transaction that is committed and one that is not, and die there.

    Args:
        run: Its events are numbered from 0.
        sample: All lines of the outbox, and so many others; None: every instruction. Of a large
            transaction, so many lines from where its bundle is made; None: every line.
        many: Events in a transaction.

    Returns:
        How many boundaries there are, and how many senders have died.
    """
    event = "line" if sample is not None or many > 1 else "opcode"
    transactions = (range(first, first + many) for first in itertools.count(0, many))
    in_child(run, next(transactions), event, undo=False, last=None)  # What is made once is made.
    boundaries, died = 0, 0
    for undo in (False, True) if many == 1 else (False,):
        files = in_child(run, next(transactions), event, undo=undo, last=None)
        boundaries += len(files)
        points = range(len(files))
        if sample is not None and many > 1:
            points = sorted(random.sample(points, sample))
        elif sample is not None:
            of_outbox = {point for point in points if files[point] == OUTBOX}
            others = [point for point in points if point not in of_outbox]
            points = sorted(of_outbox | set(random.sample(others, sample)))
        for point in points:
            died += not in_child(run, next(transactions), event, undo=undo, last=point)
    return {"boundaries": boundaries, "died": died}


def main(id: str, mode: str, using: str, sample: str, many: str) -> None:  # noqa: A002
    django.setup()

    from django.db import connections

    from async_signals.sending import bundling

    from .oracle import Run

    if int(many) > 1:
        bundling.FEW = int(many) - 1

    run = Run("sender", mode, id=id, using=using)
    send(run, [-1], Boundaries("line"), undo=False)  # Imports what is imported late.
    connections.close_all()
    print("sender ready.", flush=True)
    told = die_everywhere(run, sample=int(sample) if sample else None, many=int(many))
    print(f"all have died: {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
