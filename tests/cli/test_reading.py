"""What the command shows is complete, can be copied, and obeys no message."""

from __future__ import annotations

import datetime as dt
import re
import uuid

import pytest
from django.utils import timezone

from async_signals.models import Attempt, Event, FailureGroup, Outcome, State
from tests.ledger.conftest import SENT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class TestList:
    def test_a_line_for_each(self, manage, add) -> None:
        """Id, state, receiver, age, attempts and error stand under their headers."""
        delivery = add(
            sent_at=timezone.now() - dt.timedelta(hours=3, minutes=5),
            exception="smtplib.SMTPServerDisconnected",
            message="Connection unexpectedly\nclosed",
        )

        answer = manage("list")

        header, line, last, _ = answer.out.splitlines()
        assert header.split() == ["ID", "STATE", "RECEIVER", "SENT", "NEXT", "ATTEMPTS", "ERROR"]
        short = str(delivery.pk)[:18]
        assert re.split(r"\s{2,}", line) == [
            short,
            "failed",
            "shop.receive",
            "3h ago",
            "-",
            "2",
            "SMTPServerDisconnected: Connection unexpectedly",
        ]
        assert last == f"Next: manage.py async_signals show {short}"
        assert answer.code == 0

    def test_ids_can_be_copied(self, manage, add) -> None:
        """Each id that is shown is enough to find its delivery, however close two are."""
        first, second = uuid.uuid4(), None
        first = uuid.UUID(hex=first.hex[:-4] + "aaaa")
        second = uuid.UUID(hex=first.hex[:-4] + "aaab")
        add(id=first), add(id=second)

        shown = [line.split()[0] for line in manage("list").out.splitlines()[1:3]]

        assert {manage("show", short, "--json").document["id"] for short in shown} == {
            str(first),
            str(second),
        }

    def test_filters(self, manage, add) -> None:
        """Every option narrows; together they narrow more."""
        now = timezone.now()
        old = add(receiver="shop.other", exception="KeyError", fingerprint="f" * 32)
        new = add(State.PENDING, sent_at=now)

        def ids(*args):
            return {row["id"] for row in manage("list", "--json", *args).document["deliveries"]}

        for args in (
            ("--receiver", "shop.other"),
            ("--state", "failed"),
            ("--exception", "KeyError"),
            ("--group", "f" * 32),
            ("--until", "1h"),
            ("--until", "2026-02-01"),
        ):
            assert ids(*args) == {str(old.pk)}, args
        assert ids("--since", "1h") == {str(new.pk)}
        assert ids("--signal", "shop.signals.done") == {str(old.pk), str(new.pk)}

    def test_more_than_fits(self, manage, add) -> None:
        """A list that was cut says so, to people and to scripts."""
        add(), add()

        assert "The newest 1; more with --limit" in manage("list", "--limit", 1).out
        assert manage("list", "--limit", 1, "--json").document["more"] is True
        assert manage("list", "--limit", 2, "--json").document["more"] is False

    def test_nothing(self, manage, transactional_db) -> None:
        """Nothing that matches is code 1, and the next thing to try is named."""
        answer = manage("list")

        assert answer.code == 1
        assert answer.out.splitlines() == [
            "No deliveries in the ledger match. What succeeds at once leaves no row.",
            "Next: manage.py async_signals stats",
            "      manage.py async_signals doctor",
        ]
        answer = manage("list", "--json")
        assert (answer.code, answer.document) == (1, {"deliveries": [], "more": False})

    def test_a_message_commands_no_terminal(self, manage, add) -> None:
        """Control characters of an error's message never reach the screen."""
        row = add(message="\x1b[2J\x1b]0;owned\x07 \x9b31m boo", exception="E")

        for args in (("list",), ("show", row.pk)):
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", manage(*args).out)


class TestMistakes:
    def test_unknown_receiver(self, manage, add) -> None:
        """A slip in a name is usage, and the name that was meant stands there."""
        add()

        answer = manage("list", "--receiver", "shop.recieve")

        assert answer.code == 2
        assert answer.err == (
            "cannot filter by receiver 'shop.recieve': expected the name of a receiver, got: one "
            "that neither this process nor the ledger knows. Did you mean 'shop.receive'?"
        )

    def test_unknown_state(self, manage, transactional_db) -> None:
        """A state that does not exist is named with those that do."""
        answer = manage("list", "--state", "fail")

        assert answer.code == 2
        assert answer.err == (
            "cannot filter by state 'fail': expected one of ['discarded', 'failed', 'pending', "
            "'published', 'running', 'succeeded']. Did you mean 'failed'?"
        )

    def test_an_id_of_many(self, manage, add) -> None:
        """The beginning of several ids finds none of them, and names them."""
        first, second = uuid.UUID("0199aaaa" + "0" * 24), uuid.UUID("0199aaab" + "0" * 24)
        add(id=first), add(id=second)

        answer = manage("show", "0199-aaa")

        assert answer.code == 2
        assert answer.err == (
            "cannot tell which delivery '0199-aaa' is: expected the beginning of one id, got: "
            f"that of {first}, {second}. Type more of it."
        )
        assert manage("show", "0199aaab", "--json").document["id"] == str(second)

    @pytest.mark.parametrize("text", ["zzz", "0199", "-" * 3])
    @pytest.mark.parametrize("verb", ["retry", "replay"])
    def test_an_id_of_none(self, manage, transactional_db, verb, text) -> None:
        """What is no beginning of an id is refused with the way to find one."""
        answer = manage(verb, "--", text)

        assert answer.code == 2
        assert answer.err.startswith(f"cannot find delivery {text!r}: ")
        assert answer.err.endswith("`manage.py async_signals list` shows ids to copy.")

    @pytest.mark.parametrize("args", [("--since", "soon"), ("--since", "2026-13-01")])
    def test_times(self, manage, transactional_db, args) -> None:
        """A time that cannot be read says how times are written."""
        answer = manage("list", *args)

        assert "cannot read the time" in answer.err
        assert "as in 2h" in answer.err

    @pytest.mark.parametrize("number", ["0", "-1", "some", "99999999999999999999"])
    def test_numbers(self, manage, transactional_db, number) -> None:
        """A number that no ledger has rows for is as wrong as none."""
        answer = manage("list", f"--limit={number}")

        assert "expected a whole number above 0, and at most 999,999,999, got: " in answer.err

    def test_no_tables(self, manage, transactional_db, monkeypatch) -> None:
        """A ledger that was never migrated is one line with the cure, not a traceback."""
        from async_signals.models import Delivery

        monkeypatch.setattr(Delivery._meta, "db_table", "nowhere")

        answer = manage("list")

        assert answer.code == 1
        assert answer.err.startswith("cannot use the ledger in database 'default': ")
        assert "`manage.py migrate async_signals --database default`" in answer.err


def test_failures(manage, add) -> None:
    """Equal failures are one line, with what to type to retry them; code 1: there are some."""
    FailureGroup.objects.create(
        fingerprint="f" * 32,
        receiver="shop.receive",
        exception="smtplib.SMTPServerDisconnected",
        message="closed",
        first_at=SENT,
        last_at=SENT,
    )
    assert manage("failures").code == 0
    for state in (State.FAILED, State.FAILED, State.PENDING):
        add(state, fingerprint="f" * 32)

    answer = manage("failures")

    assert answer.code == 1
    line = re.split(r"\s{2,}", answer.out.splitlines()[1])
    assert line[:3] == ["f" * 32, "2", "1"]
    assert line[-2:] == ["shop.receive", "SMTPServerDisconnected: closed"]
    assert f"manage.py async_signals retry --group {'f' * 32}" in answer.out
    [group] = manage("failures", "--json").document["groups"]
    assert group == {
        "fingerprint": "f" * 32,
        "receiver": "shop.receive",
        "exception": "smtplib.SMTPServerDisconnected",
        "message": "closed",
        "failed": 2,
        "waiting": 1,
        "first_at": SENT.isoformat(),
        "last_at": SENT.isoformat(),
        "next_at": SENT.isoformat(),
    }
    assert manage("failures", "--since", "1h").code == 0


def test_show(manage, add) -> None:
    """All that is known: payload, attempts with the site's own frames first, the audit."""
    delivery = add(reason="attempts exhausted")
    Attempt.objects.create(
        delivery=delivery,
        number=1,
        outcome=Outcome.RAISED,
        started_at=SENT,
        duration=1.5,
        queued=0.25,
        worker="celery@one",
        exception="OSError",
        message="no",
        own_frames="shop/receivers.py:14 in receive",
        traceback="Traceback: everything",
    )
    manage("retry", delivery.pk, "--yes", "--reason", "smtp fixed")

    out = manage("show", delivery.pk).out

    assert '{"number": 0}' in out
    assert "in queue 0.25 s, ran 1.5 s" in out
    assert "shop/receivers.py:14 in receive" in out
    assert "Traceback: everything" not in out
    assert 'retry "smtp fixed": retried: it had failed' in out
    assert "Traceback: everything" in manage("show", delivery.pk, "--traceback").out
    document = manage("show", delivery.pk, "--json").document
    assert document["attempt_list"][0]["worker"] == "celery@one"
    assert document["operations"][0]["via"] == "command"
    assert document["state"] == "pending"


def test_show_tells_what_it_has_to_do_with(manage, add) -> None:
    """What led to it, also where that is gone, and what repeats it."""
    gone, cause, delivery = uuid.UUID(int=7), add(receiver="shop.first"), add()
    for caused, key in ((delivery, cause.pk), (cause, gone)):
        Event.objects.filter(pk=caused.event_id).update(cause=key)
    replay = add(State.PENDING, replay_of=delivery)

    out = manage("show", delivery.pk).out.split("\n")

    assert f"  caused by     {cause.pk} (failed, shop.first)" in out
    assert f"  caused by     {gone} (not in the ledger any more)" in out
    assert f"  replayed as   {replay.pk} (pending, shop.receive)" in out
    document = manage("show", delivery.pk, "--json").document
    assert document["causes"] == [str(cause.pk), str(gone)]
    assert document["replays"] == [str(replay.pk)]


def test_show_of_what_was_pruned(manage, transactional_db) -> None:
    """A full id of nothing says why there is nothing."""
    answer = manage("show", uuid.UUID(int=7))

    assert answer.code == 2
    assert "It was pruned, or succeeded at once, which leaves no row." in answer.err


def test_stats(manage, add) -> None:
    """One line for each receiver; the document has the sums."""
    assert manage("stats").code == 0
    add(), add(State.PENDING), add(receiver="shop.other")
    manage("pause", "shop.other")

    answer = manage("stats")

    assert answer.out.splitlines()[1].split() == ["shop.other", *"000010", "paused"]
    assert "The oldest due delivery is " in answer.out
    document = manage("stats", "--json").document
    assert document["states"]["failed"] == 2
    assert document["receivers"][0]["paused"] is True
    assert document["late"] > 3600
