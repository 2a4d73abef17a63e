"""The doctor names what is wrong, and its cure; whatever is broken, it answers in time."""

from __future__ import annotations

import socket
import time

import pytest
from celery import Celery
from django.dispatch import Signal

from async_signals.cli import ledger_health, worker_health
from async_signals.ledger import aliases
from async_signals.models import FailureGroup, State
from tests.ledger.conftest import SENT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

happened = Signal()


@pytest.fixture
def app(settings, monkeypatch):
    """Use a Celery app with this broker."""

    def app(url: str, *, timeout: float = 30.0) -> None:
        made = Celery("shop", broker=url, set_as_current=False)
        monkeypatch.setattr(f"{__name__}.celery_app", made, raising=False)
        path = f"{__name__}.celery_app"
        settings.ASYNC_SIGNALS = {"CELERY_APP": path, "PUBLISH_TIMEOUT": timeout}

    return app


@pytest.fixture
def diagnosis(manage, monkeypatch):
    """Run the doctor; return its code, and the findings by what they are about."""
    monkeypatch.setattr(worker_health, "ANSWER", 0.1)

    def diagnosis():
        answer = manage("doctor", "--json")
        found = {}
        for finding in answer.document["findings"]:
            found.setdefault(finding["about"], []).append(finding)
        assert answer.document["exit"] == answer.code
        return answer.code, found

    return diagnosis


def test_nobody_works(diagnosis, manage, app, transactional_db, connect) -> None:
    """A broker without a worker is code 69, with the command that starts one."""
    app("memory://")

    code, found = diagnosis()

    assert code == 69
    assert found["ledger"] == [
        {
            "about": "ledger",
            "level": "ok",
            "text": "the ledger in database 'default' has its tables",
            "cure": "",
        }
    ]
    assert found["broker"][0]["level"] == "ok"
    assert found["workers"] == [
        {
            "about": "workers",
            "level": "unavailable",
            "text": "no worker answers",
            "cure": "celery -A shop worker",
        }
    ]
    lines = manage("doctor").out.splitlines()
    assert "✓ the ledger in database 'default' has its tables" in lines
    assert lines[lines.index("✗ no worker answers") + 1] == "    celery -A shop worker"


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_no_broker(diagnosis, app, transactional_db, scheme) -> None:
    """A broker that is down is code 69, at once, and its password is not shown."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app(f"{scheme}://ana:planted-secret@127.0.0.1:{port}//")

    code, found = diagnosis()

    assert code == 69
    [broker] = found["broker"]
    assert broker["level"] == "unavailable"
    assert f"127.0.0.1:{port}" in broker["text"]
    assert broker["cure"] == "Start it, or correct the broker_url of the Celery app."
    assert "planted-secret" not in str(found)
    assert "workers" not in found


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_silent_broker(diagnosis, app, transactional_db, scheme) -> None:
    """A broker that accepts and never answers is given up in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}//", timeout=1.0)
        started = time.monotonic()

        code, _ = diagnosis()

    assert code == 69
    assert time.monotonic() - started < 10


def test_no_tables(diagnosis, app, transactional_db, monkeypatch) -> None:
    """Migrations that were not applied are named with the command that does it."""
    app("memory://")

    class Executor:
        def __init__(self, connection):
            migration = type("Migration", (), {"name": "0001_initial"})
            graph = type("Graph", (), {"leaf_nodes": lambda self, app: []})()
            self.loader = type("Loader", (), {"graph": graph})()
            self.migration_plan = lambda leaves: [(migration, False)]

    monkeypatch.setattr(ledger_health, "MigrationExecutor", Executor)

    _, found = diagnosis()

    assert found["ledger"] == [
        {
            "about": "ledger",
            "level": "error",
            "text": f"the ledger in database {using!r} lacks migrations: 0001_initial",
            "cure": f"manage.py migrate async_signals --database {using}",
        }
        for using in aliases()
    ]
    assert "late" not in found


def test_deliveries(diagnosis, app, add, manage, connect) -> None:
    """Late, failed, paused and orphaned deliveries are each named with a cure."""
    app("memory://")

    def receive(**kwargs) -> None: ...

    connect(happened, receive, name="shop.receive", robust=True)
    add(), add(State.PENDING), add(receiver="shop.removed")
    add(State.SUCCEEDED, receiver="shop.removed_long_ago")
    code, found = diagnosis()

    assert code == 69
    assert found["late"][0]["level"] == "error"
    assert found["failed"][0]["text"] == "2 deliveries have failed and wait for a person"
    [orphan] = found["orphans"]
    assert orphan["text"] == "1 deliveries are for shop.removed, which nobody knows"
    assert "manage.py async_signals discard --receiver shop.removed" in orphan["cure"]

    manage("pause", "shop.receive")
    _, found = diagnosis()
    # What waits because a person wants it to is not late.
    assert found["late"][0] == {
        "about": "late",
        "level": "ok",
        "text": "no delivery is late",
        "cure": "",
    }
    assert found["paused"][0]["cure"] == "manage.py async_signals resume shop.receive"


def test_the_spool(diagnosis, app, transactional_db, settings, tmp_path) -> None:
    """What waits in the spool is counted; one that cannot be written is an error."""
    app("memory://")
    given = settings.ASYNC_SIGNALS
    (tmp_path / "1.json").write_text("x")
    settings.ASYNC_SIGNALS = given | {"SPOOL": str(tmp_path)}
    assert diagnosis()[1]["spool"][0]["text"] == f"1 files wait in the spool {tmp_path}"

    settings.ASYNC_SIGNALS = given | {"SPOOL": str(tmp_path / "new" / "deep")}
    assert diagnosis()[1]["spool"][0]["level"] == "ok"

    settings.ASYNC_SIGNALS = given | {"SPOOL": str(tmp_path / "1.json" / "no")}
    assert diagnosis()[1]["spool"][0]["level"] == "error"


def test_wrong_settings(manage, transactional_db, settings) -> None:
    """Settings that cannot be read are the first finding, not a traceback."""
    settings.ASYNC_SIGNALS = {"PUBLISH_TIMEOUT": "long"}

    answer = manage("doctor", "--json")

    first = answer.document["findings"][0]
    assert answer.code == 1
    assert first["level"] == "error"
    assert first["text"].startswith("cannot read ASYNC_SIGNALS['PUBLISH_TIMEOUT']: ")


def test_eager(diagnosis, transactional_db, settings, app) -> None:
    """Where Celery runs tasks at once there is no broker to ask, and it is said."""
    app("memory://")
    celery_app.conf.task_always_eager = True  # noqa: F821  (set by the fixture)

    _, found = diagnosis()

    assert found["broker"][0]["level"] == "warning"
    assert "workers" not in found


def test_what_waits_for_a_person_breaks_nothing(diagnosis, app, add, connect, manage) -> None:
    """A failed delivery is a warning and code 0 here, and code 1 of failures."""
    app("memory://")
    celery_app.conf.task_always_eager = True  # noqa: F821  (set by the fixture)

    def receive(**kwargs) -> None: ...

    connect(happened, receive, name="shop.receive", robust=True)
    row = add(fingerprint="f")
    FailureGroup.objects.create(
        fingerprint="f", receiver=row.receiver, exception="x", first_at=SENT, last_at=SENT
    )

    code, found = diagnosis()

    assert (code, found["failed"][0]["level"]) == (0, "warning")
    assert manage("failures").code == 1
