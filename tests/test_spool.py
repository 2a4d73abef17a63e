"""The spool: what neither broker nor database takes comes into the ledger as it would have."""

from __future__ import annotations

import datetime as dt
import os
import time

import pytest
from django.db import OperationalError, transaction
from django.dispatch import Signal
from django.utils import timezone

from async_signals import registry
from async_signals.ids import new_id
from async_signals.ledger import due, keeping, spool
from async_signals.models import Delivery
from async_signals.wire.signing import sign

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
STANDING = spool.Standing(wait=0, failure=None, final=False, deliverable=True, told=True)
ENSURE_THREAD = spool._ensure_thread


@pytest.fixture(autouse=True)
def place(settings, tmp_path, monkeypatch):
    """The folder; what is in it is moved when the test says so."""
    settings.ASYNC_SIGNALS = {"SPOOL": str(tmp_path)}
    monkeypatch.setattr(spool, "_ensure_thread", lambda: None)
    monkeypatch.setattr(spool, "_stuck", set())
    return tmp_path


@pytest.fixture
def made(envelope):
    """Deliveries, each with an id of its own."""
    return [envelope._replace(id=new_id(), event_id=new_id()) for _ in range(2)]


def names(place):
    return sorted(path.name for path in place.iterdir())


class TestStanding:
    def test_a_refused_event_is_recorded_as_such(self, connect, ledger) -> None:
        """What could not be sent has failed, with the reason, and is never delivered."""
        name = f"tests.spool.{new_id()}"

        def receive(**kwargs): ...

        connect(done, receive, name=name, robust=True, on_commit=False)
        with transaction.atomic(using=ledger):
            done.send(None, number=(i for i in ()), using=ledger)
        assert not Delivery.objects.using(ledger).exists()

        assert spool.drain() == 1

        row = Delivery.objects.using(ledger).get()
        assert (row.state, row.envelope, row.due_at) == ("failed", "", None)
        assert row.exception == "async_signals.exceptions.SerializationError"
        assert "number" in row.message
        assert row.message == row.reason
        assert len(row.fingerprint) == 32
        assert due.take_due(ledger, receivers=registry.known(), limit=10) == ([], [], None)

    def test_a_countdown_goes_on(self, made, ledger, place) -> None:
        """It is due when it would have been, however long it lay in the spool."""
        with transaction.atomic(using=ledger):
            keeping.keep(made, wait=3600)
        written = time.time() - 600
        os.utime(place / f"{made[0].id}.json", (written, written))

        assert spool.drain() == 2

        waits = [
            (Delivery.objects.using(ledger).get(pk=each.id).due_at - timezone.now())
            / dt.timedelta(seconds=1)
            for each in made
        ]
        assert waits == pytest.approx([3000, 3600], abs=30)

    def test_what_is_forged_is_not_stored(self, made, place, db) -> None:
        """A file that was changed is put aside."""
        spool.spool(made[:1], STANDING)
        (path,) = place.iterdir()
        path.write_text(path.read_text().replace('"wait": 0', '"wait": 1'))

        assert spool.drain() == 0
        assert names(place) == [f"{made[0].id}.bad"]
        assert not Delivery.objects.exists()


class TestWriting:
    def test_only_what_was_not_written_is_lost(self, made, place, monkeypatch, caplog) -> None:
        """A disk that fills up loses what did not fit; the rest is brought into the ledger."""
        started, sync, calls = [], os.fsync, []

        def fsync(handle):
            calls.append(handle)
            if len(calls) == 1:
                raise OSError(28, "No space left on device")
            sync(handle)

        monkeypatch.setattr(spool, "_ensure_thread", lambda: started.append(1))
        monkeypatch.setattr(spool.os, "fsync", fsync)

        assert not keeping.keep_aside(made, "OperationalError", STANDING)

        lost = [each for each in caplog.messages if each.startswith("Lost")]
        assert len(lost) == 1
        assert made[0].id in lost[0]
        assert [each for each in caplog.messages if each.startswith("Spooled 1 ")]
        assert names(place) == [f"{made[1].id}.json"]  # Nor is half a file left.
        assert started == [1]

    def test_an_id_leads_nowhere_else(self, made, place) -> None:
        """What a message says that it is cannot choose the folder."""
        spool.spool([made[0]._replace(id="../../x")], STANDING)
        assert names(place) == ["______x.json"]


class TestReading:
    @pytest.mark.parametrize(
        "bad",
        [
            lambda path: path.write_bytes(b"\xff\xfe\x00"),
            lambda path: path.write_text(""),
            lambda path: path.write_text(sign("[1]")),
            lambda path: path.write_text(sign('{"envelope": 1}')),
            lambda path: path.mkdir(),
            os.mkfifo,
            lambda path: path.symlink_to("/etc/hostname"),
            lambda path: path.symlink_to("/nowhere"),
        ],
        ids=["bytes", "empty", "list", "other", "folder", "pipe", "link", "dead link"],
    )
    def test_what_is_none_of_ours_is_put_aside(self, made, place, caplog, bad, db) -> None:
        """One line in the log, and those after it are moved."""
        spool.spool(made, STANDING)
        bad(place / "0.json")

        assert spool.drain() == 2
        assert names(place) == ["0.bad"]
        assert [each.levelname for each in caplog.records] == ["ERROR"]

    @pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_what_is_another_users(self, made, place, what, db) -> None:
        """A file of another user's is put aside; from another's folder nothing is read."""
        spool.spool(made[:1], STANDING)
        name = f"{made[0].id}.json"
        os.chown(place if what == "folder" else place / name, 12345, 12345)

        if what == "folder":
            with pytest.raises(PermissionError, match="another user"):
                spool.drain()
            assert names(place) == [name]
        else:
            assert spool.drain() == 0
            assert names(place) == [f"{made[0].id}.bad"]

    def test_what_cannot_be_put_aside_is_told_once(self, made, place, caplog, db) -> None:
        """It stays, and those after it are moved all the same."""
        spool.spool(made, STANDING)
        (place / "0.json").write_bytes(b"\xff")
        (place / "0.bad" / "full").mkdir(parents=True)

        assert [spool.drain() for _ in range(3)] == [2, 0, 0]
        assert names(place) == ["0.bad", "0.json"]
        assert len(caplog.records) == 1

    def test_what_the_ledger_refuses_is_put_aside(self, made, place, caplog, db) -> None:
        """One delivery that has no place in the ledger keeps no other from it."""
        spool.spool([made[0]._replace(id="0"), made[1]], STANDING)

        assert spool.drain() == 1
        assert names(place) == ["0.bad"]

    def test_the_spool_waits_for_the_database(self, made, place, monkeypatch) -> None:
        """Nothing is put aside because the ledger is down."""

        def refuse(*args, **kwargs):
            raise OperationalError("down")

        spool.spool(made, STANDING)
        monkeypatch.setattr(spool, "stored", refuse)

        with pytest.raises(OperationalError):
            spool.drain()
        assert len(list(place.glob("*.json"))) == 2

    def test_not_more_than_asked_for(self, made, place, db) -> None:
        """A relay moves a batch, and goes on with its other work."""
        spool.spool(made, STANDING)
        assert [spool.drain(limit=1) for _ in range(3)] == [1, 1, 0]


def test_the_process_that_spooled_moves_it(made, place, monkeypatch, transactional_db) -> None:
    """Its thread ends when nothing is left that can be moved, and comes again when asked."""
    monkeypatch.setattr(spool, "_ensure_thread", ENSURE_THREAD)
    (place / "0.json").write_bytes(b"\xff")
    (place / "0.bad" / "full").mkdir(parents=True)
    deadline = time.monotonic() + 20
    for each in made:
        spool.spool([each], STANDING)
        while (place / f"{each.id}.json").exists() or spool._thread is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert Delivery.objects.count() == 2
