"""A process with threads of this package forks, as a worker does for its pool."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest

from async_signals import forks, relay
from async_signals.forks import PATIENCE, unforked
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")

#: Seconds of patience that end in no test, however slow this machine is.
LONG = 60.0


@contextlib.contextmanager
def in_the_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def exit_code_of_a_child(works) -> int:
    """Fork, and return 0 where *works* says so in the child."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if works() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_inherits_no_lock_that_the_relay_holds(monkeypatch) -> None:
    """Such as that of a stream, while the relay logs: the child would wait for it for ever."""
    monkeypatch.setattr(forks, "PATIENCE", LONG)
    stop, has_lock, lock = threading.Event(), threading.Event(), threading.Lock()

    def tick(self) -> bool:
        with lock:
            has_lock.set()
            time.sleep(0.2)  # As long as the write of a line to a slow terminal.
        return False

    monkeypatch.setattr(relay.Relay, "tick", tick)
    with in_the_background(lambda: relay.run(stop)):
        for _ in range(3):
            has_lock.clear()
            assert has_lock.wait(10)
            assert exit_code_of_a_child(lambda: lock.acquire(timeout=1)) == 0
        stop.set()


def test_a_thread_that_waits_for_a_server_delays_a_fork_by_a_bounded_time() -> None:
    done, inside = threading.Event(), threading.Event()

    def work() -> None:
        with unforked():
            inside.set()
            done.wait(10)

    with in_the_background(work):
        assert inside.wait(10)
        started = time.monotonic()
        assert exit_code_of_a_child(lambda: True) == 0
        assert time.monotonic() - started >= PATIENCE
        done.set()


def test_threads_work_at_once_and_a_busy_one_lets_forks_pass(monkeypatch) -> None:
    """One that is hardly ever idle does not keep a fork waiting until its patience ends."""
    monkeypatch.setattr(forks, "PATIENCE", LONG)
    stop, turns = threading.Event(), []
    both = threading.Barrier(2)

    def work() -> None:
        with unforked():
            both.wait(10)
        while not stop.is_set():
            with unforked():
                turns.append(1)
                time.sleep(0.01)

    with in_the_background(work), in_the_background(work):
        wait_until(lambda: turns)
        started = time.monotonic()
        for _ in range(5):
            assert exit_code_of_a_child(lambda: True) == 0
        assert time.monotonic() - started < LONG
        stop.set()


def test_a_child_that_was_forked_in_the_middle_works_on() -> None:
    """Its own threads and forks do not wait for those of its parent."""

    def works() -> bool:
        forks.PATIENCE = LONG  # Of this child alone.
        started = time.monotonic()
        with unforked():
            pass
        return exit_code_of_a_child(lambda: True) == 0 and time.monotonic() - started < LONG

    with unforked():
        assert exit_code_of_a_child(works) == 0
