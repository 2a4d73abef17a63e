"""
What the site is told from outside.

A variable of the environment counts first; else what a demo that is running has written
down, so that ``manage.py`` in a second terminal talks to the same broker and database.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

#: Everything that the demo writes.
DATA = Path(os.environ.get("DEMO_DATA") or Path(__file__).resolve().parent.parent / "data")

#: Written by a demo that is running, removed when it ends.
RUNNING = DATA / "running.json"


def variable(name: str, default: str = "") -> str:
    """Return what the environment, or else a running demo, says for *name*."""
    return os.environ.get(name) or _running.get(name, default)


_running: dict[str, str] = json.loads(RUNNING.read_text("utf-8")) if RUNNING.is_file() else {}


def secret_key() -> str:
    """Return this checkout's own key, made when it is first needed."""
    path = _data_file("secret_key")
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48), "ascii")
    return path.read_text("ascii")


def database(url: str) -> dict[str, object]:
    """
    Return Django's description of the database at *url*; SQLite's in the data folder for "".

    Raises:
        ImproperlyConfigured: It is neither a PostgreSQL nor an SQLite URL.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "":
            return _sqlite(_data_file("demo.sqlite3"))
        case "sqlite" | "sqlite3":
            return _sqlite(Path(unquote(parts.path[1:])))
        case "postgres" | "postgresql":
            return {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": unquote(parts.path[1:]),
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "HOST": parts.hostname or "",
                "PORT": parts.port or "",
            }
    raise ImproperlyConfigured(
        f"cannot use DATABASE_URL: expected postgres://user:password@host/name or "
        f"sqlite:///file, got: {parts.scheme}://..."
    )


def _sqlite(path: Path) -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path.absolute(),
        # Web, worker and beat write to one file: wait for each other instead of failing.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def _data_file(name: str) -> Path:
    DATA.mkdir(parents=True, exist_ok=True)
    return DATA / name
