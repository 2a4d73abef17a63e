"""A real Celery worker process for a test, and what its receivers report back."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from .testproject.brokers import Broker

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "celery -A tests.testproject worker -l INFO -c 2 --without-mingle --without-gossip"


class Reports:
    """
    Datagrams from receivers in other processes; see ``tests.testapp.reports``.

    A thread takes them as they come: the kernel throws away what finds its buffer full.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._received: list[dict] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while datagram := self._socket.recv(65536):
            with self._more:
                self._received.append(json.loads(datagram))
                self._more.notify_all()

    def wait(self, count: int = 1, timeout: float = 30, **expected) -> list[dict]:
        """Return the first *count* reports that have all of *expected*; they are taken out."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.got(**expected)) >= count, timeout), (
                f"expected {count} reports with {expected} within {timeout} s, "
                f"got: {self._received}"
            )
            found = self.got(**expected)[:count]
            self._received = [r for r in self._received if r not in found]
            return found

    def got(self, **expected) -> list[dict]:
        """Return the reports with all of *expected* that have come and nobody has waited for."""
        with self._more:
            return [r for r in self._received if expected.items() <= r.items()]

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


#: RabbitMQ keeps the name of a node that was killed for a while.
_numbers = itertools.count()


class Process:
    """A Python process in a session of its own, and what it prints."""

    def __init__(self, *command: str, ready: str, **env: str) -> None:
        databases = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", *command],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
                "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(databases),
                "PYTHONUNBUFFERED": "1",
                **env,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.wait_for_line(ready)
        except AssertionError:
            self.kill()
            raise

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def position(self) -> int:
        """How many lines it has written; what comes later comes after this."""
        return len(self._lines)

    def wait_for_line(self, text: str, after: int = 0, timeout: float = 30) -> str:
        """Return the first line of the output after *after* that has *text* in it."""
        deadline = time.monotonic() + timeout
        with self._more:
            while True:
                for line in self._lines[after:]:
                    if text in line:
                        return line
                if self._process.poll() is not None or not self._more.wait(
                    max(0, deadline - time.monotonic())
                ):
                    raise AssertionError(f"expected {text!r} in the output, got:\n{self.output}")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it and its pool as a power cut would."""
        with contextlib.suppress(ProcessLookupError):  # It has ended by itself.
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)
        self._process.stdout.close()

    def close(self) -> None:
        """Let go of what an ended process has printed to."""
        self._process.stdout.close()

    def terminate(self) -> None:
        """Ask it to end, as a deployment would."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it as a deployment would, and return its exit code."""
        self.terminate()
        return self.wait(60)

    def wait(self, timeout: float = 15) -> int:
        """Return its exit code when it has ended, as it was asked to; in the end it is killed."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            return self._process.wait(5)
        finally:
            self._process.stdout.close()


class Worker(Process):
    """``celery -A tests.testproject worker`` as a process of its own."""

    def __init__(self, broker: Broker, reports: Reports, *args: str, **env: str) -> None:
        super().__init__(
            *COMMAND.split(),
            "-n",
            f"{broker.queue}-{next(_numbers)}@%h",
            *args,
            ready=" ready.",
            **{
                "ASYNC_SIGNALS_TEST_BROKER": broker.url,
                "ASYNC_SIGNALS_TEST_QUEUE": broker.queue,
                "ASYNC_SIGNALS_TEST_TRANSPORT_OPTIONS": json.dumps(broker.transport_options),
                "ASYNC_SIGNALS_TEST_REPORTS": str(reports.port),
                **env,
            },
        )
