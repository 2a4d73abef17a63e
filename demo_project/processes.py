"""Child processes whose output is shown line by line, and can be waited for."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that a process may take to end when it was asked to. A worker whose task ends in this
#: very moment sometimes takes half a minute: its pool counts results that nobody fetches now.
GRACE = 5


class Process:
    """A Python module that runs as a process of its own, and ends with this one."""

    def __init__(self, name: str, *command: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._expected: list[tuple[str, threading.Event]] = []
        # A session of its own: Ctrl-C reaches the parent only, which stops its children in order.
        how = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo_project.lifeline", *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **how,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def expect(self, pattern: str) -> threading.Event:
        """Return an event that is set once a line with *pattern* comes from now on."""
        event = threading.Event()
        self._expected.append((pattern, event))
        return event

    def ask_to_end(self) -> None:
        if self.exit_code is None:
            self._process.terminate()

    def end(self) -> None:
        """Wait until it has ended, kill it if that takes too long, and leave nothing behind."""
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            say(self.name, f"It did not end within {GRACE} s and is killed.")
        if os.name == "nt":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):  # The rule: nobody of its group is left.
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._reader.join(1)

    def again(self) -> Process:
        """Return a new process that does the same."""
        return Process(self.name, *self._command, environment=self._environment)

    def _read(self) -> None:
        for line in self._process.stdout:
            say(self.name, line.rstrip())
            for pattern, event in self._expected:
                if re.search(pattern, line):
                    event.set()
        self._process.stdout.close()


def say(name: str, text: str = "") -> None:
    """Print a line with the name of the process that it comes from."""
    sys.stdout.write(f"{name:>7} | {text}".rstrip() + "\n")
    sys.stdout.flush()
