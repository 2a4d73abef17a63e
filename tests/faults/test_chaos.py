"""Everything at random, for seconds here and for minutes in the full version."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.conftest import require
from tests.worker import ROOT

from .oracle import lines
from .scale import scaled

SHORT = ("--spare-rabbitmq", "--patience", "180")
SECONDS, EVENTS = scaled((20, 200), (600, 10_000))
#: Twice as long as that where events are few, and as long as it takes to deliver them.
LONGEST = 2 * SECONDS + scaled(300, 900)


@pytest.mark.timeout(LONGEST + 20)
def test_what_was_committed_is_delivered() -> None:
    """
    Nothing lost, nothing that was rolled back, and no row of the database twice.

    The short version has the machine's own RabbitMQ, which lives: to start one takes as long as
    all the rest.
    """
    require("rabbitmq")
    for server in ("initdb", "redis-server", *scaled((), ("rabbitmq-server",))):
        if shutil.which(server) is None:
            pytest.skip(f"no {server} to start a server of its own with")
    options = ["--seconds", str(SECONDS), "--events", str(EVENTS), *scaled(SHORT, ())]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    lines.append(ended.stdout.splitlines()[-1])
    print(lines[-1])
