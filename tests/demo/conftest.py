"""The demo's site and the demo itself, always in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import uuid

import psutil
import pytest

from demo_project.bootstrap import CHECKOUT

SITE = CHECKOUT / "demo_project"

#: Seconds for any single step; a machine may be slow.
PATIENCE = 60


@pytest.fixture
def queue():
    """A queue of this test's own: a real broker serves others too."""
    return f"demo-test-{uuid.uuid4().hex}"


@pytest.fixture
def environment(tmp_path, queue):
    """The environment of a process of the demo, with a data folder of its own."""
    # What pytest-django tells this process is not meant for the demo's.
    ours = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return ours | {
        "DEMO_DATA": str(tmp_path / "data"),
        "OMDB_API_KEY": "",  # Nothing leaves this machine.
        "PYTHONPATH": str(CHECKOUT),
        "QUEUE": queue,
    }


@pytest.fixture
def manage(environment):
    """Run a command of ``manage.py``."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", SITE / "manage.py", *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return run


class Demo:
    """``python -m demo_project`` with all that it prints."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo_project", "--port", "0", *arguments],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def await_line(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches *pattern*, and return the match."""

        def found() -> re.Match[str] | None:
            matches = (re.search(pattern, line) for line in self.lines)
            return next((match for match in matches if match), None)

        with self._news:
            match = self._news.wait_for(found, PATIENCE)
        assert match, f"no line with {pattern!r}:\n{self.output}"
        return match

    def exit_code(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(5)
        return code

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, text: str) -> psutil.Process:
        """Return the child process whose command line has *text*."""
        return next(child for child in self.children() if text in child.cmdline())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
        self._reader.join(5)
        self.process.stdout.close()


@pytest.fixture
def demo(environment):
    """Start the demo with arguments; it is stopped after the test."""
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(*arguments, environment=environment))
        return started[-1]

    yield start
    for each in started:
        each.close()
