"""Which process runs a delivery, and whether it still lives."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from pathlib import Path

__all__ = ["is_dead", "new_claimant"]

_numbers = itertools.count(1)


def new_claimant() -> str:
    """
    Return what nobody else has, here or elsewhere; empty where the system cannot say.

    That is the machine's boot, the namespace of process ids, the id, when the process started, and
    a number of its own.
    """
    process = _identity(os.getpid())
    return process and f"{process}:{next(_numbers)}"


def is_dead(claimant: str) -> bool:
    """Whether the process of *claimant* ran here, and is gone; False where nobody can tell."""
    try:
        machine, pid, started_at = claimant.split(":")[:3]
        if machine != _machine(os.getpid()):
            return False
    except (OSError, ValueError):
        return False
    try:
        return _started_at(int(pid)) != started_at
    except FileNotFoundError:
        return _is_gone(int(pid))
    except (OSError, ValueError, IndexError):
        return False


def _is_gone(pid: int) -> bool:
    # /proc may hide the processes of other users (hidepid, ProtectProc=); their ids it cannot.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@functools.cache
def _identity(pid: int) -> str:
    try:
        return f"{_machine(pid)}:{pid}:{_started_at(pid)}"
    except (OSError, IndexError):
        return ""


@functools.cache
def _machine(pid: int) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:12]


def _started_at(pid: int) -> str:
    """Return when a process started; empty: it is dead, and only not collected yet."""
    # After the name, which may hold anything and ends with the last parenthesis; proc(5), stat.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
