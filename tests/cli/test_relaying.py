"""A relay of its own ends when it is asked to, as process managers do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from django.db import connections

from .conftest import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def test_once(manage, transactional_db) -> None:
    """With --once it ends when nothing is due."""
    assert manage("relay", "--once", "--json").document == {"published": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked(transactional_db, number) -> None:
    """SIGTERM and Ctrl-C end it after the batch at hand, with code 0."""
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "django", "async_signals", "relay"],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
            "PYTHONPATH": str(ROOT),
            "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(names),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "The relay runs; Ctrl-C ends it.\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()

    assert out.splitlines()[0] == "The relay has published 0 deliveries."
    assert process.returncode == 0
