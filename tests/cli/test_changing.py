"""Nothing is changed before it was counted and somebody said yes; and who it was is kept."""

from __future__ import annotations

import datetime as dt
import io
import os
import pwd
import uuid

import pytest
from django.dispatch import Signal
from django.utils import timezone

from async_signals.models import Delivery, Operation, Pause, State
from tests.ledger.conftest import make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def says(monkeypatch):
    """Put a person before the terminal who types this."""

    def says(text):
        class Keyboard(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("sys.stdin", Keyboard(text))

    return says


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """No terminal, as in a script."""
    monkeypatch.setattr("sys.stdin", io.StringIO())


def states() -> list[str]:
    return sorted(Delivery.objects.values_list("state", flat=True))


def test_yes_retries(manage, add) -> None:
    """With --yes nobody is asked; the account of the host and the reason are written down."""
    row = add()

    answer = manage("retry", str(row.pk)[:18], "--yes", "--reason", "smtp fixed")

    assert answer.code == 0
    assert answer.out.splitlines() == [
        "retry: 1 changed, 0 left as they were.",
        f"Next: manage.py async_signals show {row.pk}",
    ]
    assert states() == ["pending"]
    done = Operation.objects.get()
    name = pwd.getpwuid(os.getuid()).pw_name
    assert (done.by, done.via, done.reason) == (name, "command", "smtp fixed")


def test_nobody_signs_as_somebody_else(manage, add, monkeypatch) -> None:
    """The audit has the account of the process, not the one that its environment names."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ceo")
    manage("retry", add().pk, "--yes")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    manage("retry", add().pk, "--yes")

    monkeypatch.undo()
    names = [pwd.getpwuid(os.getuid()).pw_name, f"uid {os.getuid()}"]
    assert [each.by for each in Operation.objects.order_by("started_at")] == names


@pytest.mark.parametrize("verb", ["retry", "discard", "replay", "prune"])
def test_without_a_terminal_somebody_has_to_have_said_yes(manage, add, verb) -> None:
    """A script without --yes changes nothing, and is told so with code 2."""
    over = timezone.now() - dt.timedelta(days=2)
    add(), add(State.SUCCEEDED, sent_at=over, finished_at=over)
    args = {"prune": [], "discard": ["--all", "--reason", "x"]}.get(verb, ["--state", "failed"])

    answer = manage(verb, *args)

    assert answer.code == 2
    assert answer.err == (
        f"cannot {verb} 1 delivery: expected a person to say yes, got: no terminal. "
        "Pass --yes, or look first with --dry-run."
    )
    assert states() == ["failed", "succeeded"]


@pytest.mark.parametrize(("typed", "code", "state"), [("y\n", 0, "pending"), ("\n", 1, "failed")])
def test_it_counts_and_asks(manage, add, says, typed, code, state) -> None:
    """A person is told how many before it happens; only yes is yes."""
    add(), add()
    says(typed)

    answer = manage("retry", "--all")

    assert answer.err == "Retry 2 deliveries (all)? [y/N] "
    assert answer.code == code
    assert states() == [state] * 2


@pytest.mark.parametrize("verb", ["retry", "discard", "replay"])
def test_what_was_counted_is_what_is_changed(manage, add, monkeypatch, verb) -> None:
    """What fails before the person has answered is not drawn in; what runs by then is left."""
    first, second = add(), add()

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            add(), add()
            later = timezone.now() + dt.timedelta(hours=1)
            Delivery.objects.filter(pk=first.pk).update(state="running", due_at=later)
            return "y\n"

    monkeypatch.setattr("sys.stdin", Keyboard())

    answer = manage(verb, "--receiver", "shop.receive", "--reason", "old")

    assert answer.err == f"{verb.capitalize()} 2 deliveries (receiver=shop.receive)? [y/N] "
    assert answer.out.splitlines()[0] == f"{verb}: 1 changed, 1 left as they were."
    assert f"  {first.pk} left: it is " in answer.out
    done = Operation.objects.get()
    assert (done.target, done.total) == ("receiver=shop.receive", 2)
    assert {*done.items.values_list("delivery", "changed")} == {
        (first.pk, False),
        (second.pk, True),
    }


def test_no_is_a_document_too(manage, add, says) -> None:
    """A script before a person gets its document also where the person says no."""
    add()
    says("n\n")

    answer = manage("retry", "--all", "--json")

    assert (answer.code, answer.document["changed"]) == (1, 0)


def test_dry_run(manage, add) -> None:
    """It names what it would change, asks nobody, and changes nothing."""
    row = add()

    answer = manage("retry", "--receiver", "shop.receive", "--dry-run")

    assert answer.code == 0
    assert answer.out.splitlines()[0] == (
        "Would retry 1 delivery (receiver=shop.receive); nothing was changed."
    )
    assert str(row.pk)[:18] in answer.out
    assert states() == ["failed"]
    assert not Operation.objects.exists()
    document = manage("retry", row.pk, "--dry-run", "--json").document
    assert document == {
        "dry_run": True,
        "total": 1,
        "changed": 0,
        "would_change": 1,
        "items": [{"id": str(row.pk), "changed": False, "outcome": "failed"}],
    }


LATER = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("verb", "fits"),
    [
        (["retry"], {"failed", "discarded", "pending", "late published", "late running"}),
        (
            ["discard", "--reason", "x"],
            {"failed", "pending", "late pending", "late published", "late running"},
        ),
        (["replay"], {"failed", "discarded", "succeeded"}),
    ],
)
def test_a_dry_run_promises_no_more_than_is_done(manage, add, says, verb, fits) -> None:
    """Both it and the question count what would be changed, by the state and by the time."""
    now = timezone.now()
    rows = {state: add(state) for state in ("failed", "discarded", "succeeded")}
    for state in ("pending", "published", "running"):
        rows[state] = add(state, due_at=now + LATER)
        rows[f"late {state}"] = add(state, due_at=now - LATER)
    rows["unsent"] = add(State.SUCCEEDED, envelope="")

    for name, row in rows.items():
        fit = name in fits
        plan = manage(*verb, row.pk, "--dry-run", "--json")
        assert plan.document["would_change"] == fit, name
        said = "1" if fit else "0 of 1"
        assert f"Would {verb[0]} {said} delivery (id=" in manage(*verb, row.pk, "--dry-run").out
        says("n\n")
        assert manage(*verb, row.pk).err.startswith(f"{verb[0].capitalize()} {said} delivery (")
        says("y\n")
        assert plan.code == manage(*verb, row.pk).code == (0 if fit else 1), name


def test_replay_to_others_is_planned(manage, add, connect) -> None:
    """What is on its way to all of these receivers already is not counted."""

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="shop.other", robust=True)
    args = ["replay", add().pk, "--to", "shop.other"]

    assert manage(*args, "--dry-run", "--json").document["would_change"] == 1
    assert manage(*args, "--yes").code == 0
    assert manage(*args, "--dry-run", "--json").document["would_change"] == 0
    assert manage(*args, "--yes").code == 1


def test_stopped_at_the_question(manage, add, monkeypatch) -> None:
    """Ctrl-C means no."""

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Keyboard())
    add()

    answer = manage("retry", "--all")

    assert (answer.code, answer.out) == (1, "Nothing was changed.\n")
    assert states() == ["failed"]


def test_stopped_later(manage, add, monkeypatch) -> None:
    """Ctrl-C in the middle is told in one line, with the code of shells."""
    add()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("async_signals.operations.retry", stop)

    answer = manage("retry", "--all", "--yes")

    assert answer.code == 130
    assert answer.err == "stopped retry: what was done until then stays, and is in the audit."


@pytest.mark.parametrize("alias", ["default", "postgresql", "mariadb"], indirect=True)
def test_bytes_that_are_no_text(manage, ledger, connect) -> None:
    """What a terminal in another encoding sends is an unknown name, or left out of a reason."""

    def receive(**kwargs) -> None: ...

    connect(Signal(), receive, name="shop.receive", robust=True)
    [row] = save(ledger, make())
    for args in (
        ["list", "--receiver", "\udcff"],
        ["pause", "caf\udce9"],
        ["list", "--state", "\udcff"],
        ["show", "\udcff"],
        ["retry", "\udcff"],
    ):
        answer = manage(*args)
        assert (answer.code, answer.out) == (2, "")
        assert "\\udc" in answer.err
    told = manage("retry", "--exception", "\udcff")
    assert (told.code, told.out.encode().decode()) == (1, told.out)
    for verb in ("pause", "resume"):
        assert manage(verb, "shop.receive", "--reason", "caf\udce9").code == 0
    assert manage("discard", row.pk, "--yes", "--reason", "caf\udce9").code == 0
    reasons = Operation.objects.using(ledger).values_list("reason", flat=True)
    assert [*reasons] == ["caf"] * 3


def test_all_has_to_be_meant(manage, add) -> None:
    """A verb without anything that narrows it is usage, not everything."""
    add()

    for verb in ("retry", "replay"):
        answer = manage(verb, "--yes")
        assert answer.code == 2
        assert answer.err == (
            f"cannot {verb}: expected ids, something that narrows the deliveries, or --all, got: "
            f"neither. Try: manage.py async_signals {verb} --receiver NAME --dry-run"
        )
    assert states() == ["failed"]


@pytest.mark.parametrize(("option", "code"), [("receiver", 2), ("state", 2), ("signal", 1)])
def test_an_empty_name_is_not_everything(manage, add, option, code) -> None:
    """A script whose variable is empty changes nothing."""
    add()

    assert manage("discard", f"--{option}", "", "--yes", "--reason", "x").code == code
    assert states() == ["failed"]


def test_nothing_matches(manage, add) -> None:
    """Nothing to do is code 1, so that a script notices."""
    add(State.SUCCEEDED)

    answer = manage("retry", "--all", "--yes")

    assert answer.code == 1
    assert answer.out.splitlines()[0] == "Nothing to retry: no delivery matches (all)."


def test_what_was_left_is_named(manage, add) -> None:
    """Each delivery that was left alone stands there with the reason; code 1 if all were."""
    row = add(State.RUNNING, due_at=timezone.now() + dt.timedelta(hours=1))

    answer = manage("retry", row.pk, "--yes")

    assert answer.code == 1
    assert f"  {row.pk} left: it is running" in answer.out.splitlines()
    document = manage("retry", row.pk, "--yes", "--json").document
    assert document["items"] == [
        {"id": str(row.pk), "changed": False, "outcome": "left: it is running"}
    ]
    assert (document["total"], document["changed"], document["unchanged"]) == (1, 0, 1)


def test_an_id_of_no_delivery(manage, add) -> None:
    """An id that is not in the ledger is code 2, a whole one too, and nothing is changed."""
    row, gone = add(), uuid.UUID(int=7)
    for verb in (["retry"], ["replay"], ["discard", "--reason", "x"]):
        for args in (["--yes"], ["--dry-run"]):
            answer = manage(*verb, row.pk, gone, *args)
            assert answer.code == 2
            assert answer.err == (
                f"cannot find delivery '{gone}': expected the beginning of an id in the ledger, "
                "got: one of none. `manage.py async_signals list` shows ids to copy."
            )
    assert states() == ["failed"]


def test_limit(manage, add) -> None:
    """A first few can be tried before all the others."""
    add(), add(), add()

    manage("retry", "--all", "--yes", "--limit", 2)

    assert states() == ["failed", "pending", "pending"]


def test_a_dry_run_names_what_is_taken(manage, add) -> None:
    """With --limit it names those that are changed then: the oldest, in whatever order typed."""
    now = timezone.now()
    new, old = add(sent_at=now), add(sent_at=now - dt.timedelta(days=1))

    for verb in (["retry"], ["replay"], ["discard", "--reason", "x"]):
        args = [*verb, new.pk, old.pk, "--limit", 1, "--json"]
        [planned] = manage(*args, "--dry-run").document["items"]
        [done] = manage(*args, "--yes").document["items"]
        assert planned["id"] == done["id"] == str(old.pk)
        Delivery.objects.filter(pk=old.pk).update(state="failed", due_at=None)


def test_a_dry_run_of_prune_names_what_goes(manage, add) -> None:
    """The same that are deleted then: the oldest."""
    days = [dt.timedelta(days=days) for days in (2, 40, 3)]
    rows = [add(State.SUCCEEDED, sent_at=timezone.now() - each) for each in days]
    Delivery.objects.filter(pk=rows[1].pk).update(state="discarded")

    document = manage("prune", "--limit", 2, "--dry-run", "--json").document
    assert manage("prune", "--limit", 2, "--yes").code == 0

    assert [each["id"] for each in document["items"]] == [str(rows[1].pk), str(rows[2].pk)]
    assert Delivery.objects.get().pk == rows[0].pk


def test_discard_wants_a_reason(manage, add) -> None:
    """Nothing is given up without a reason."""
    row = add()

    assert manage("discard", row.pk, "--yes").code != 0
    assert manage("discard", row.pk, "--yes", "--reason", " ").code == 2
    assert states() == ["failed"]
    assert manage("discard", row.pk, "--yes", "--reason", "customer left").code == 0
    assert Delivery.objects.get().reason == "customer left"


def test_replay(manage, add) -> None:
    """A success is delivered again, and the new id is told."""
    row = add(State.SUCCEEDED)

    document = manage("replay", row.pk, "--yes", "--json").document

    new = Delivery.objects.get(state="pending")
    assert document["items"][0]["outcome"] == f"delivered again as {new.pk} to shop.receive"
    assert manage("replay", row.pk, "--yes", "--to", "shop.nobody").code == 2


def test_pause_and_resume(manage, add) -> None:
    """A receiver waits until it is resumed; an unknown one is refused."""
    add()

    answer = manage("pause", "shop.receive", "--reason", "smtp down")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "shop.receive is paused: its deliveries wait, none fails.",
        "Next: manage.py async_signals resume shop.receive",
    ]
    assert Pause.objects.get().reason == "smtp down"
    assert "already paused" in manage("pause", "shop.receive").out
    assert manage("resume", "shop.receive").code == 0
    assert not Pause.objects.exists()
    assert "was not paused" in manage("resume", "shop.receive").out
    assert "Did you mean 'shop.receive'?" in manage("pause", "shop.recieve").err


def test_prune(manage, add) -> None:
    """What is over goes, what failed stays; --older-than says since when it is over."""
    over = timezone.now() - dt.timedelta(hours=5)
    add(State.SUCCEEDED, sent_at=over, finished_at=over)
    add()

    assert manage("prune", "--yes").out.splitlines()[0] == (
        "prune: 0 changed, 0 left as they were."
    )
    assert manage("prune", "--older-than", "4h", "--dry-run", "--json").document["total"] == 1
    assert manage("prune", "--older-than", "4h", "--yes").code == 0
    assert states() == ["failed"]


def test_a_bar_is_for_screens(manage, add, monkeypatch) -> None:
    """Where stderr is no terminal, nothing of the progress is written."""
    add()

    assert manage("retry", "--all", "--yes").err == ""
