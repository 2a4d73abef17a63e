"""Which process runs a delivery, and whether it still lives."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

__all__ = ["is_dead", "this_process"]


def this_process() -> str:
    """
    Return what no other process has, here or elsewhere; empty where the system cannot say.

    That is the machine's boot, the namespace of process ids, the id, and when it started.
    """
    return _identity(os.getpid())


def is_dead(process: str) -> bool:
    """Whether *process* ran where this one runs, and is gone; False where nobody can tell."""
    try:
        machine, pid, started_at = process.split(":")
        if machine != _machine(os.getpid()):
            return False
    except (OSError, ValueError):
        return False
    try:
        return _started_at(int(pid)) != started_at
    except FileNotFoundError:
        return True
    except (OSError, ValueError, IndexError):
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
    # After the name, which may hold anything and ends with the last parenthesis; proc(5), stat.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise FileNotFoundError(pid)  # Dead, and only not collected yet.
    return fields[19]
