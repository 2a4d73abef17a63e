"""The command as a script would call it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests.ledger.conftest import make, save

ROOT = Path(__file__).resolve().parent.parent.parent


class Answer:
    """What the command wrote, and the code that it ended with."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def manage():
    """Run ``manage.py async_signals`` with these arguments in this process."""

    def manage(*args: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command("async_signals", *map(str, args), stdout=out, stderr=err)
        except SystemExit as exc:
            code = exc.code
        except CommandError as exc:
            code = exc.returncode
            err.write(str(exc))
        return Answer(code, out.getvalue(), err.getvalue())

    return manage


@pytest.fixture
def add(transactional_db):
    """Put one delivery into the ledger; arguments as for ``make()``."""
    return lambda *args, **fields: save("default", make(*args, **fields))[0]


@pytest.fixture
def start():
    """Run ``django-admin async_signals`` as a process of its own, without a terminal."""

    def start(*args: object, **env: str) -> subprocess.CompletedProcess:
        names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        return subprocess.run(
            [sys.executable, "-m", "django", "async_signals", *map(str, args)],
            cwd=ROOT,
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
                "PYTHONPATH": str(ROOT),
                "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(names),
            }
            | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return start


@pytest.fixture
def run_on_a_screen():
    """Run the command in a pseudo-terminal of 100 columns; return what stands on it."""

    def run_on_a_screen(*args: str, **env: str) -> str:
        pid, screen = pty.fork()
        if pid == 0:
            names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
            environment = os.environ | {
                "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
                "PYTHONPATH": str(ROOT),
                "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(names),
                "TERM": "xterm-256color",
                "COLUMNS": "100",
            }
            environment.pop("NO_COLOR", None)
            os.execve(
                sys.executable,
                [sys.executable, "-m", "django", "async_signals", *args],
                environment | env,
            )
        chunks = []
        while True:
            try:
                chunk = os.read(screen, 65536)
            except OSError:  # Linux: the other side has closed it.
                break
            if not chunk:
                break
            chunks.append(chunk)
        os.waitpid(pid, 0)
        os.close(screen)
        return b"".join(chunks).decode()

    return run_on_a_screen
