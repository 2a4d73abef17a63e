"""The processes of the demo, and a first search that shows what they do."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from demo_project.processes import Process, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
TERM = "lord of the rings"

#: Seconds for each step of the start; a machine may be slow.
PATIENCE = 60


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Stopped(Exception):  # noqa: N818  (nothing is wrong)
    """Somebody has asked for the end."""


class Demo:
    """The processes of the demo, and what is done with them."""

    def __init__(self, *, data: Path, broker: str, database: str) -> None:
        self.data = data
        self.told = {"DEBUG": "1", "BROKER_URL": broker, "DATABASE_URL": database}
        path = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        needed = {
            "DEMO_DATA": str(data),
            "DJANGO_SETTINGS_MODULE": "core.settings",
            "EMAIL_HOST": "",  # The mail is shown where it is sent: in the worker's output.
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }
        self.environment = os.environ | self.told | needed
        self.processes: list[Process] = []
        self.stopping = threading.Event()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: self.stopping.set())

    # -- Start and end

    def start(self, port: int) -> None:
        """Start everything, and return when the site answers and the worker is ready."""
        self._prepare()
        self.site = f"http://127.0.0.1:{port}/"
        self._process("web", "django", "runserver", "--noreload", f"127.0.0.1:{port}")
        celery = ("celery", "--quiet", "--app", "core")
        pool = "threads" if os.name == "nt" else "prefork"
        self.worker = self._process(
            *("worker", *celery, "worker", "--loglevel", "INFO", "--concurrency", "2"),
            *("--pool", pool, "--without-gossip", "--without-mingle"),
        )
        ready = self.worker.expect(" ready\\.")
        # The plain scheduler keeps no file: each start begins anew.
        self._process(
            "beat", *celery, "beat", "--loglevel", "WARNING", "--scheduler", "celery.beat:Scheduler"
        )
        self._wait(ready.is_set, "worker that is ready")
        self._wait(lambda: is_listening(port), "site that answers")

    def _prepare(self) -> None:
        prepare = Process("prepare", "django", "prepare", environment=self.environment)
        try:
            self._wait(lambda: prepare.exit_code is not None, "database that is ready")
        finally:
            prepare.ask_to_end()
            prepare.end()
        if prepare.exit_code:
            raise DemoError("the database cannot be prepared; see above.")

    def _process(self, name: str, *command: str) -> Process:
        process = Process(name, *command, environment=self.environment)
        self.processes.append(process)
        return process

    def _wait(self, is_true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not is_true():
            if self.stopping.wait(0.05):
                raise Stopped
            for process in self.processes:
                if process.exit_code is not None:
                    raise DemoError(f"{process.name} ended with exit code {process.exit_code}.")
            if time.monotonic() > end:
                raise DemoError(f"no {what} within {seconds} s.")

    def end(self) -> None:
        """End all processes in good order; what they need must still be there."""
        for process in reversed(self.processes):
            process.ask_to_end()
        for process in reversed(self.processes):
            process.end()

    @contextlib.contextmanager
    def written_down(self) -> Iterator[None]:
        """Let ``manage.py`` in another terminal find this demo's broker and database."""
        self.data.mkdir(parents=True, exist_ok=True)
        running = self.data / "running.json"
        running.touch(mode=0o600)
        running.write_text(json.dumps(self.told), "utf-8")
        try:
            yield
        finally:
            running.unlink(missing_ok=True)

    # -- What there is to see

    def show(self) -> None:
        """Search once, wait for the worker's mail, and measure what waiting would have cost."""
        # A database that is kept may know the term; only a new one is worth a mail.
        for term in (TERM, f"{TERM} {dt.datetime.now():%Y-%m-%d %H:%M:%S}"):
            mail = self.worker.expect(f"A new search term was used: '{re.escape(term)}'")
            mailed = self.worker.expect(r"search_term_saved\[.* succeeded")
            recommended = self.worker.expect(r"find_recommendations\[.* succeeded")
            say("demo", f"Searching for '{term}' through the web page ...")
            page, seconds = self._open(q=term)
            say("demo", f"The page was there after {seconds:.3f} s.")
            if 'id="new-term"' in page:
                break
        self._wait(mail.is_set, "mail from the worker")
        self._wait(mailed.is_set, "success of the worker's task")
        say("demo", "The mail to the admins was sent by the worker process.")

        # The same search both ways, when nothing else goes on.
        self._wait(recommended.is_set, "recommendations from the worker")
        _, inline = self._open(q=TERM, wait=1)
        recommended = self.worker.expect(r"find_recommendations\[.* succeeded")
        _, asynchronous = self._open(q=TERM)
        self._wait(recommended.is_set, "recommendations from the worker")
        say("demo", "The same search over HTTP, with a receiver that needs a second:")
        say("demo", f"    as a @receiver         {inline:.3f} s")
        say("demo", f"    as an @async_receiver  {asynchronous:.3f} s, and the worker did the rest")

    def serve(self) -> None:
        """Stay until somebody stops it; start again whatever somebody has killed meanwhile."""
        manage = f"{relative(sys.executable)} {relative(HERE / 'manage.py')}"
        for line in (
            "",
            f"Search    {self.site}",
            f"Admin     {self.site}admin/    user admin, password admin",
            f'Terminal  {manage} movie_search "finding nemo"',
            f"Break it  {manage} mail_server break, and search three times",
            "Stop      Ctrl-C",
            "",
        ):
            say("demo", line)
        while not self.stopping.wait(0.5):
            for index, process in enumerate(self.processes):
                if process.exit_code is not None:
                    say(
                        "demo",
                        f"{process.name} has ended ({process.exit_code}): starting it again.",
                    )
                    process.end()
                    self.processes[index] = process.again()
        raise Stopped

    def _open(self, **query: object) -> tuple[str, float]:
        """Return the search page for *query*, and the seconds that it took."""
        started = time.perf_counter()
        try:
            with urllib.request.urlopen(f"{self.site}?{urlencode(query)}", timeout=30) as response:
                page = response.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                raise DemoError(f"the search page answered with {exc.code}; see above.") from None
        except OSError as exc:
            raise DemoError(f"the search page did not answer: {exc}.") from None
        return page, time.perf_counter() - started


def is_listening(port: int) -> bool:
    """Whether somebody on this machine accepts connections at *port*."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def relative(path: str | Path) -> Path:
    """Return *path* as it can be typed from here, if that is shorter."""
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(Path.cwd())
    return Path(path)
