"""
Run Django's own suites of signals with every receiver of theirs made asynchronous.

    python -m tests.django_suites.run django-6.1.3.tar.gz

The archive is a source distribution of Django; only the suites are taken from it, the
Django that they test is the installed one. What a suite connects goes through
``async_signals.connect``, and each delivery through encoding, signature and decoding before
it runs in this process.

Fails where a test fails that ``expected.py`` does not list, and where a listed one passes or
fails in another way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import sys
import tarfile
import tempfile
import unittest
from typing import TYPE_CHECKING
from unittest import mock

import django
from django.conf import settings
from django.db.models.signals import ModelSignal
from django.dispatch import Signal
from django.test.runner import DiscoverRunner

import async_signals.testing
from async_signals.executor import execute
from async_signals.testing import run_inline
from tests.django_suites.expected import NOT_HOLDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUITES = ("signals", "m2m_signals")
#: A TestCase never commits. And a receiver of pre_save runs before there is a row to fetch.
OPTIONS = {"on_commit": False, "missing": "snapshot"}
SETTINGS = {
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "async_signals",
        *SUITES,
    ],
    "SECRET_KEY": "only for tests",
    "USE_TZ": False,
}


def main(archive: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, unpack(archive, folder))
        settings.configure(**SETTINGS)
        django.setup()
        outcome = run(SUITES)
        unexpected = find_unexpected(outcome.failures)
        for group in NOT_HOLDING:
            if group.granted is not None:
                with group.granted():
                    unexpected |= run(group.tests).failures
    for test, text in unexpected.items():
        print(f"\nUNEXPECTED {test}\n{text}")
    print(
        f"Django {django.__version__}: {outcome.tests} tests, "
        f"{outcome.tests - len(outcome.failures)} passed, {len(outcome.failures)} failed, "
        f"{len(unexpected)} not as listed; "
        f"{outcome.receivers} asynchronous receivers, {outcome.deliveries} deliveries"
    )
    return 1 if unexpected or not outcome.deliveries else 0


def unpack(archive: str, folder: str) -> str:
    """Unpack the suites, and return the folder to import them from."""
    with tarfile.open(archive) as source:
        root = source.getnames()[0].partition("/")[0]
        wanted = tuple(f"{root}/tests/{suite}/" for suite in SUITES)
        members = [member for member in source.getmembers() if member.name.startswith(wanted)]
        source.extractall(folder, members, filter="data")
    return f"{folder}/{root}/tests"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of tests came to."""

    tests: int
    failures: dict[str, str]  #: The traceback of each test that failed.
    receivers: int  #: Connected by the tests, as asynchronous ones.
    deliveries: int  #: Encoded, signed, verified, decoded and run.


def run(labels: Sequence[str]) -> Outcome:
    """Run tests, with their receivers asynchronous and delivered in this process."""
    runner = Runner()
    with (
        asynchronous_receivers() as names,
        mock.patch.object(async_signals.testing, "execute", wraps=execute) as executed,
        run_inline(),
    ):
        runner.run_tests(list(labels))
    result = runner.result
    failures = {test.id(): text for test, text in result.failures + result.errors}
    return Outcome(result.testsRun, failures, len(names), executed.call_count)


class Runner(DiscoverRunner):
    """Django's runner, but quiet: what a failure means is said at the end."""

    def __init__(self) -> None:
        super().__init__(verbosity=0)

    def run_checks(self, databases: object) -> None:
        """Do nothing: the suites' models are not the subject."""

    def get_test_runner_kwargs(self) -> dict[str, object]:
        return super().get_test_runner_kwargs() | {"stream": io.StringIO()}

    def run_suite(self, suite: unittest.TestSuite, **kwargs: object) -> unittest.TestResult:
        self.result = super().run_suite(suite, **kwargs)
        return self.result


_numbers = itertools.count(1)  # Over all runs: a receiver of an earlier one may be alive.


@contextlib.contextmanager
def asynchronous_receivers() -> Iterator[list[str]]:
    """Make ``connect()`` ours where a suite's receiver is connected; gives these one's names."""
    names: list[str] = []
    genuine = {kind: kind.connect for kind in (Signal, ModelSignal)}

    def rerouting(kind: type[Signal]) -> Callable[..., None]:
        def connect(signal, receiver, sender=None, weak=True, dispatch_uid=None, **more):
            keys = {"sender": sender, "weak": weak, "dispatch_uid": dispatch_uid, **more}
            module = getattr(receiver, "__module__", "")
            if module.partition(".")[0] not in SUITES:
                return genuine[kind](signal, receiver, **keys)
            names.append(f"{module}.receiver_{next(_numbers)}")
            with connecting_by(genuine):  # What ours calls, now or when a lazy sender is there.
                return async_signals.connect(signal, receiver, name=names[-1], **keys, **OPTIONS)

        return connect

    with connecting_by({kind: rerouting(kind) for kind in genuine}):
        yield names


@contextlib.contextmanager
def connecting_by(methods: dict[type[Signal], Callable[..., None]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for kind, method in methods.items():
            stack.enter_context(mock.patch.object(kind, "connect", method))
        yield


def find_unexpected(failures: dict[str, str]) -> dict[str, str]:
    """Return what differs between the tests that failed and those listed."""
    unexpected = dict(failures)
    for group in NOT_HOLDING:
        for test in group.tests:
            text = unexpected.pop(test, "It is listed as not holding, but it passed.")
            if group.shows not in text:
                unexpected[test] = text
    return unexpected


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
