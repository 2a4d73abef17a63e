"""Everything at random, for seconds here and for minutes in the full version."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.worker import ROOT

from .oracle import lines
from .scale import scaled

SECONDS, EVENTS = scaled((20, 400), (600, 10_000))


@pytest.mark.timeout(SECONDS + 400)
def test_what_was_committed_is_delivered() -> None:
    """Nothing lost, nothing that was rolled back, and no row of the database twice."""
    for server in ("initdb", "redis-server"):
        if shutil.which(server) is None:
            pytest.skip(f"no {server} to start a server of its own with")
    options = ["--seconds", str(SECONDS), "--events", str(EVENTS)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 380,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    lines.append(ended.stdout.splitlines()[-1])
    print(lines[-1])
