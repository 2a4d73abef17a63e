"""A worker is known to be dead only where that is sure: else its delivery would run twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.dispatch import Signal

from async_signals import robust
from async_signals.ids import new_id
from async_signals.models import Delivery
from async_signals.processes import is_dead, new_claimant
from async_signals.wire.envelope import pack

pytestmark = pytest.mark.skipif(not new_claimant(), reason="only Linux says which process it was")

done = Signal()
SAY = "from async_signals.processes import new_claimant as p; print(p(), flush=True); input()"


@pytest.fixture
def worker():
    """Another process, and what it calls itself."""
    command = [sys.executable, "-c", SAY]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def hide(monkeypatch):
    """Leave processes out of ``/proc``, as hidepid and ProtectProc= do with those of others."""
    read = Path.read_text

    def hide_process(pid):
        def look(path, *args, **kwargs):
            if path.is_relative_to(f"/proc/{pid}"):
                raise FileNotFoundError(path)
            return read(path, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", look)

    return hide_process


def test_one_that_lives_is_not_dead(worker) -> None:
    """Nor is this one."""
    assert not is_dead(worker[1])
    assert not is_dead(new_claimant())


def test_one_that_was_killed_is_dead(worker, hide) -> None:
    """Before and after it is collected, and also where nobody would see it alive."""
    process, name = worker
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It is left uncollected.
    assert is_dead(name)
    process.wait()
    assert is_dead(name)
    hide(process.pid)
    assert is_dead(name)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_one_that_is_hidden_is_not_dead(worker, hide, monkeypatch, is_allowed) -> None:
    """It belongs to another user: may this one send it a signal or not, its id is taken."""
    process, name = worker
    hide(process.pid)

    def refuse(pid, signal):
        raise PermissionError(pid)

    with monkeypatch.context() as patch:
        if not is_allowed:
            patch.setattr(os, "kill", refuse)
        assert not is_dead(name)


def test_an_id_that_another_one_has_now_tells_of_a_death(worker) -> None:
    """Ids are given out again; when it started tells them apart."""
    machine, pid, started_at, _ = worker[1].split(":")
    assert is_dead(f"{machine}:{pid}:{int(started_at) - 1}")


@pytest.mark.parametrize("name", ["", "w", "a:b:c", "another:1:1"])
def test_of_others_nobody_can_tell(name) -> None:
    """Those of other machines, and what no process calls itself."""
    assert not is_dead(name)


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_duplicate_beside_a_hidden_worker_is_left(connect, sent, hide, ledger) -> None:
    """The worker of another user runs the delivery still: it is not taken from it."""
    results = []

    def receive(**kwargs) -> None:
        hide(new_claimant().split(":")[1])
        results.extend(robust.run(pack(sent), name=name, worker="other@test/2"))

    name = f"tests.processes.{new_id()}"
    connect(done, receive, name=name, robust=True)
    done.send(None)

    results += robust.run(pack(sent), name=name, worker="w@test/1")

    assert [each.state for each in results] == ["skipped", "succeeded"]
    assert not Delivery.objects.using(ledger).exists()
