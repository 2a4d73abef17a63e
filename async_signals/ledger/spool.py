"""
The place of last resort: files, for deliveries that neither broker nor database takes.

One file for each, in a folder that only this user can read. Whatever runs on this host and
finds the database again moves them into the ledger: the process that wrote them, as long as it
lives, and every relay. A host that loses its disk loses them.

A file is one signed JSON text: the envelope as the ledger keeps it, and what is to become of it
there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from django.core.exceptions import ValidationError
from django.db import DataError, Error, IntegrityError, connections

from ..conf import get_settings
from ..delivery import at_work
from ..exceptions import EnvelopeError
from ..forks import unforked
from ..wire.envelope import Envelope, dump, load
from ..wire.signing import sign, verified
from . import alias
from .failures import Failure
from .records import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Standing", "drain", "folder", "spool"]

logger = logging.getLogger("async_signals")

#: Seconds between two tries of the process that spooled.
PATIENCE = 2.0

#: Reading never follows a link, and never waits for the other end of a pipe.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

#: Why a file cannot be opened, where the file itself is not at fault.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})


class Standing(TypedDict):
    """What becomes of deliveries in the ledger: arguments of ``records.stored()``."""

    wait: float
    failure: Failure | None
    final: bool
    deliverable: bool
    told: bool


def folder() -> Path:
    """Return where the files are: another folder for each ledger; it may not exist yet."""
    given = get_settings().spool
    if given is not None:
        return Path(given)
    ledger = connections[alias()].settings_dict
    told = "|".join(str(ledger[key]) for key in ("ENGINE", "HOST", "PORT", "NAME"))
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"async_signals-spool-{_user()}-{name}"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # Windows has a temporary folder for each.


def _check(place: Path) -> None:
    """Raise OSError where the folder is not there, or is not this user's."""
    # In a folder that is open to all it may be a trap, also as a link to what is this user's.
    if place.stat(follow_symlinks=get_settings().spool is not None).st_uid != _user():
        raise PermissionError(f"{place} belongs to another user")


def spool(envelopes: Sequence[Envelope], standing: Standing) -> list[tuple[Envelope, OSError]]:
    """
    Write deliveries to files, signed, and go on trying to bring them into the ledger.

    Args:
        envelopes: Each goes into a file of its own.
        standing: What becomes of them in the ledger.

    Returns:
        Those that could not be written, each with the reason.
    """
    unwritten = []
    for envelope in envelopes:
        try:
            _write(envelope, standing)
        except OSError as exc:
            unwritten.append((envelope, exc))
    if len(unwritten) < len(envelopes):
        with contextlib.suppress(RuntimeError):  # Where Python is about to end: a relay does it.
            _ensure_thread()
    return unwritten


def _write(envelope: Envelope, standing: Standing) -> None:
    failure = standing["failure"]
    told = {**standing, "failure": dataclasses.asdict(failure) if failure is not None else None}
    text = sign(json.dumps({**told, "envelope": dump(envelope)}))
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(place)
    # Written aside and renamed: a reader never sees half a file.
    handle, name = tempfile.mkstemp(dir=place, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # An id is what a message says that it is: no way out of the folder.
        part.rename(place / f"{re.sub(r'[^0-9A-Za-z-]', '_', envelope.id)[:64]}.json")
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def drain(limit: int | None = None) -> int:
    """
    Move what is spooled into the ledger; return how many deliveries.

    What is no file of this user's, or cannot be read, is put aside as ``.bad``.

    Args:
        limit: At most so many; None: all.

    Raises:
        OSError: The folder cannot be read, or is not this user's.
        django.db.Error: The ledger cannot be reached; what is left stays.
    """
    moved = 0
    for path in _waiting():
        if moved == limit:
            break
        try:
            envelope, standing = _read(path)
        except EnvelopeError as exc:
            _put_aside(path, str(exc))
            continue
        except FileNotFoundError:
            continue  # Another process was faster.
        try:
            stored([envelope], using=alias(), **standing)  # One that is there is left alone.
        except (DataError, IntegrityError, ValidationError, ValueError) as exc:
            _put_aside(path, f"the ledger refuses it, {type(exc).__name__}.")
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            _leave(path, f"{path} is in the ledger and cannot be deleted: {exc}.")
        else:
            moved += 1
    return moved


def _waiting() -> list[Path]:
    place = folder()
    try:
        _check(place)
    except FileNotFoundError:
        return []
    return sorted(place.glob("*.json"))


def _read(path: Path) -> tuple[Envelope, Standing]:
    """
    Read what ``_write()`` wrote.

    Raises:
        EnvelopeError: It is something else.
        OSError: It is gone, or this process cannot open any file.
    """
    try:
        text, age = _content(path)
        told = json.loads(verified(text))
        envelope = load(told.pop("envelope"))
        failure = Failure(**told["failure"]) if told["failure"] is not None else None
        # What it was to wait for went on meanwhile.
        wait = min(told["wait"], max(0, told["wait"] - age))
        standing = Standing(
            wait=wait,
            failure=failure,
            final=bool(told["final"]),
            deliverable=bool(told["deliverable"]),
            told=bool(told["told"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as exc:
        # The kind of fault only: what it quotes may be data that a log must not hold.
        raise EnvelopeError(
            f"expected a spooled delivery, got: what raises {type(exc).__name__}."
        ) from None
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) or exc.errno in _PASSING:
            raise
        raise EnvelopeError(f"expected a file that can be read, got: {exc.strerror}.") from None
    return envelope, standing


def _content(path: Path) -> tuple[str, float]:
    """Return the text of a file of this user's, and how many seconds ago it was written."""
    handle = os.open(path, _FLAGS)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise EnvelopeError("expected a regular file, got: something else.")
        if about.st_uid != _user():
            raise EnvelopeError("expected a file of this user's, got: another's.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read().decode(), time.time() - about.st_mtime
    finally:
        os.close(handle)


#: What could neither be moved nor put aside: told once.
_stuck: set[Path] = set()


def _put_aside(path: Path, why: str) -> None:
    try:
        path.rename(path.with_suffix(".bad"))
    except FileNotFoundError:
        pass  # Another process was faster.
    except OSError as exc:
        _leave(path, f"Cannot read {path}: {why} Nor can it be put aside: {exc}.")
    else:
        logger.error("Cannot read %s: %s It is put aside as .bad.", path, why)


def _leave(path: Path, why: str) -> None:
    if path not in _stuck:
        _stuck.add(path)
        logger.error("%s It is left where it is.", why)


_lock = threading.Lock()
_thread: tuple[int, threading.Thread] | None = None  #: With its process: a fork has none.


def _ensure_thread() -> None:
    global _thread  # noqa: PLW0603
    with _lock:
        if _thread is not None and _thread[0] == os.getpid() and _thread[1].is_alive():
            return
        thread = threading.Thread(
            target=_drain_until_empty, name="async_signals-spool", daemon=True
        )
        thread.start()
        _thread = os.getpid(), thread


def _drain_until_empty() -> None:
    global _thread  # noqa: PLW0603
    at_work.set(True)
    pause = threading.Event()
    while True:
        with unforked():
            try:
                moved = drain()
                _thread = None  # Whoever spools from here on starts another.
                if _stuck.issuperset(_waiting()):
                    return
                _thread = os.getpid(), threading.current_thread()
            except (Error, OSError):
                moved = 0
            finally:
                connections.close_all()  # This thread's own.
        if not moved:
            pause.wait(PATIENCE)
