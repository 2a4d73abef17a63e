"""What scripts and other programs rely on: exit codes, streams, and no colour where none is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.db import connections

from async_signals.models import Delivery, State

from .conftest import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def test_codes(start, add) -> None:
    """0: well; 1: nothing matched; 2: used wrongly; data on stdout, all else on stderr."""
    row = add()
    found = start("list", "--json")

    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)["deliveries"][0]["id"] == str(row.pk)
    nothing = start("list", "--state", "running")
    assert nothing.returncode == 1
    for args in (["list", "--state", "fail"], ["nonsense"], [], ["retry", "--all"]):
        wrong = start(*args)
        assert (wrong.returncode, wrong.stdout) == (2, ""), args
        assert wrong.stderr, args
    assert Delivery.objects.get().state == "failed"
    assert start("retry", "--all", "--yes").returncode == 0
    assert Delivery.objects.get().state == "pending"


@pytest.mark.parametrize(
    ("args", "env", "colored"),
    [
        (["list"], {}, False),
        (["--force-color", "list"], {}, True),
        (["list", "--no-color"], {"NO_COLOR": ""}, False),
        (["list"], {"NO_COLOR": "1"}, False),
    ],
)
def test_colour(start, add, args, env, colored) -> None:
    """A pipe gets no colour unless it asks for it."""
    add()

    assert ("\x1b[" in start(*args, **env).stdout) == colored


def test_help_names_the_codes(start) -> None:
    """The codes stand in the help, beside what list lists."""
    out = start("--help").stdout

    assert "list deliveries in the ledger, newest first" in out
    assert "69 no worker or broker answers" in " ".join(out.split())


@pytest.mark.parametrize(("env", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_screen(add, run_on_a_screen, env, colored) -> None:
    """A terminal gets colour, unless NO_COLOR or --no-color says otherwise; ids stay whole."""
    row = add()

    out = run_on_a_screen("list", **env)

    assert ("\x1b[" in out) == colored
    assert str(row.pk)[:18] in out
    assert "\x1b[" not in run_on_a_screen("list", "--no-color", **env)


def test_whatever_stdout_can_write(start, add) -> None:
    """A locale without the characters of a message gets them escaped; documents are the same."""
    row = add(State.FAILED, exception="OSError", message="Größe ✓")
    add(State.PENDING, receiver="shop.gone", envelope="{")

    for locale in ("ascii", "utf-8"):
        listed, shown, backlog, document = (
            start(*args, PYTHONIOENCODING=locale)
            for args in (
                ["list"],
                ["show", row.pk],
                ["doctor", "--backlog"],
                ["list", "--json"],
            )
        )
        assert [each.returncode for each in (listed, shown, backlog, document)] == [0, 0, 1, 0]
        assert {each.stderr for each in (listed, shown, backlog, document)} == {""}
        assert document.stdout.isascii()
        deliveries = json.loads(document.stdout)["deliveries"]
        assert "Größe ✓" in {each["message"] for each in deliveries}
        if locale == "ascii":
            assert "Gr\\xf6\\xdfe \\u2713" in listed.stdout
            assert "\\u2717 1 to shop.gone" in backlog.stdout


def test_a_reader_that_goes(add) -> None:
    """As in "list | head -1": no traceback, and the code that shells have for it."""
    add()
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "django", "async_signals", "list"],
            cwd=ROOT,
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
                "ASYNC_SIGNALS_TEST_DATABASES": json.dumps(names),
            },
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("text", ["9999-12-31T23:59", "\udcff"])
def test_a_time_that_is_none(start, add, text) -> None:
    """A message and code 2, no traceback."""
    ended = start("list", "--until", text)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    assert "the time" in ended.stderr
