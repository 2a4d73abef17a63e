"""What the settings may hold, and what ``manage.py check`` says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import celery
import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext, override_settings

from async_signals.conf import Settings, get_settings
from async_signals.publisher import celery_app
from tests.testapp.models import Note
from tests.testproject.celery import app

WARNS = tuple(map(int, celery.__version__.split(".")[:2])) >= (5, 7)  # Of two tasks of one name.

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "async_signals"


class TestSettings:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                {"PUBLISH_TIMOUT": 1},
                "cannot read ASYNC_SIGNALS['PUBLISH_TIMOUT']: expected one of "
                f"{sorted(field.name.upper() for field in dataclasses.fields(Settings))}. "
                "Did you mean 'PUBLISH_TIMEOUT'?",
            ),
            (
                {"PUBLISH_TIMEOUT": 0},
                "cannot read ASYNC_SIGNALS['PUBLISH_TIMEOUT']: expected seconds above 0, got: 0.",
            ),
            (
                {"MAX_MESSAGE_SIZE": 1.5},
                "cannot read ASYNC_SIGNALS['MAX_MESSAGE_SIZE']: expected whole bytes above 0, "
                "got: 1.5.",
            ),
            (
                {"SIGNING": "no"},
                "cannot read ASYNC_SIGNALS['SIGNING']: expected True or False, got: str.",
            ),
            (
                {"SIGNING_KEY": ""},
                "cannot read ASYNC_SIGNALS['SIGNING_KEY']: expected a text or bytes, not empty, or "
                "None, got: str.",
            ),
            (
                {"SIGNING_KEY_FALLBACKS": "secret"},
                "cannot read ASYNC_SIGNALS['SIGNING_KEY_FALLBACKS']: expected a list of texts or "
                "bytes, none empty, got: str.",
            ),
            (
                {"ENCRYPTION_KEYS": ["secret"]},
                "cannot read ASYNC_SIGNALS['ENCRYPTION_KEYS']: expected a list of keys, each made "
                "with cryptography.fernet.Fernet.generate_key(), got: a list with something else "
                "in it.",
            ),
            (
                {"DEFAULTS": {"track_changes": True}},
                "cannot read ASYNC_SIGNALS['DEFAULTS']: expected options that fit every receiver, "
                "got: 'track_changes'. Give it to the receivers that it is for.",
            ),
            ([], "cannot read ASYNC_SIGNALS: expected a dict, got: list."),
            (
                {"DEFAULTS": {"missing": "x"}},
                "cannot read ASYNC_SIGNALS['DEFAULTS']: cannot use missing='x': expected one of "
                "('fail', 'skip', 'retry', 'snapshot').",
            ),
        ],
    )
    def test_a_wrong_one_is_named_with_the_cure(self, settings, value, message) -> None:
        """As an error of Django's, and as a check."""
        settings.ASYNC_SIGNALS = value

        with pytest.raises(ImproperlyConfigured) as caught:
            get_settings()
        assert str(caught.value) == message
        assert checks.run_checks(tags=["async_signals"]) == [
            checks.Error(message, id="async_signals.E001")
        ]

    def test_they_can_be_overridden(self) -> None:
        """``override_settings`` works at once, and so does its end."""
        with override_settings(ASYNC_SIGNALS={"PUBLISH_TIMEOUT": 1}):
            assert get_settings().publish_timeout == 1
        assert get_settings().publish_timeout == 3.5


class TestCeleryApp:
    def test_it_is_the_current_one(self) -> None:
        """Without a setting deliveries go through the site's app."""
        assert celery_app() is app
        assert checks.run_checks(tags=["async_signals"]) == []

    def test_it_can_be_named(self, settings) -> None:
        """A dotted path names another; one that does not exist is an error of the check."""
        settings.ASYNC_SIGNALS = {"CELERY_APP": "tests.testproject.celery.app"}
        assert celery_app() is app
        settings.ASYNC_SIGNALS = {"CELERY_APP": "tests.nowhere.app"}
        [error] = checks.run_checks(tags=["async_signals"])
        assert error.id == "async_signals.E002"

    def test_a_process_without_one_is_warned(self) -> None:
        """The most common mistake: the project's package does not import its Celery app."""
        code = (
            "import django; from django.conf import settings;"
            "settings.configure(INSTALLED_APPS=['async_signals'], SECRET_KEY='x');"
            "django.setup(); from django.core import checks;"
            "print([m.id for m in checks.run_checks(tags=['async_signals'])])"
        )
        assert run(code) == "['async_signals.W001']"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestImport:
    def test_it_needs_no_settings(self) -> None:
        """``import async_signals`` and decorating work before Django is configured."""
        code = (
            "from async_signals import async_receiver\n"
            "from django.dispatch import Signal\n"
            "from django.db.models.signals import post_save\n"
            "signal = Signal()\n"
            "@async_receiver([signal, post_save], queue='mail')\n"
            "def receive(**kwargs): pass\n"
            "from django.conf import settings\n"
            "print(settings.configured, signal.has_listeners())"
        )
        assert run(code) == "False True"

    def test_it_connects_to_no_broker(self) -> None:
        """Nor does it open a socket."""
        code = (
            "import socket\n"
            "def refuse(*args): raise AssertionError('a socket')\n"
            "socket.socket.connect = refuse\n"
            "import async_signals\n"
            "print('imported')"
        )
        assert run(code) == "imported"


class TestNoCost:
    @pytest.mark.django_db
    def test_no_receiver_no_query_no_code(self) -> None:
        """Without an asynchronous receiver not a line of the package runs for send or save."""
        signal, lines = Signal(), []

        def trace(frame, event, argument):
            if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
                lines.append((frame.f_code.co_filename, frame.f_lineno))

        with CaptureQueriesContext(connection) as queries:
            sys.setprofile(trace)
            try:
                signal.send(sender=None, number=1)
                Note(text="x").save()
            finally:
                sys.setprofile(None)

        assert lines == []
        assert len(queries) == 1

    @pytest.mark.django_db
    def test_a_signal_without_listeners_stays_as_it_is(self) -> None:
        """Nothing is connected to a signal but what the site connects."""
        assert Signal().has_listeners() is False
        assert post_save.has_listeners(type("Nobody", (), {})) is False


class TestEager:
    def test_task_always_eager_runs_the_receiver(self, transactional_db) -> None:
        """Celery's own switch for tests works: the receiver runs in the sender's process."""
        from async_signals import connect

        got, signal = [], Signal()

        def receive(number, **kwargs) -> None:
            got.append(number)

        connect(signal, receive, name="shop.eager")
        app.conf.task_always_eager = True
        try:
            signal.send(sender=None, number=1)
        finally:
            app.conf.task_always_eager = False

        assert got == [1]


class TestTaskNames:
    @pytest.mark.filterwarnings("ignore:Task name 'shop.taken'")  # Celery 5.7 warns on its own.
    def test_a_task_of_that_name_is_not_called(self, transactional_db, caplog) -> None:
        """A user's own task under a receiver's name never gets our message."""
        from async_signals import connect

        signal, called = Signal(), []
        app.finalize()  # From here on a name that is taken stays taken.

        def receive(**kwargs) -> None: ...

        @app.task(name="shop.taken", shared=False)
        def taken(*args) -> None:
            called.append(args)

        connect(signal, receive, name="shop.taken")
        signal.send(sender=None)

        assert called == []
        assert "cannot publish to shop.taken: expected its task in the Celery app" in caplog.text
        assert "got: another task of that name" in caplog.text
        del app.tasks["shop.taken"]

    def test_the_check_names_it(self) -> None:
        """``manage.py check`` finds the clash before a delivery is lost to it."""
        from async_signals import connect

        app.finalize()

        def receive(**kwargs) -> None: ...

        @app.task(name="shop.clash", shared=False)
        def clash() -> None: ...

        with pytest.warns(match="Task name 'shop.clash'") if WARNS else nullcontext():
            connect(Signal(), receive, name="shop.clash")
        [error] = checks.run_checks(tags=["async_signals"])

        assert error.id == "async_signals.E003"
        assert "'shop.clash'" in error.msg
        del app.tasks["shop.clash"]
