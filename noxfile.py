"""
What is run before a change is merged: ``nox -l`` lists it, ``nox -s <session>`` runs one.

Each session makes a virtual environment of its own; ``nox -r`` takes the one of the last
time. Interpreters are looked for on the PATH as ``python3.11``, ``python3.12`` and
``python3.13``; what needs one that is not there is skipped, and nox says so.
"""

from __future__ import annotations

import atexit
from pathlib import Path
from xml.etree import ElementTree as ET

import nox

PYTHONS = ("3.11", "3.12", "3.13")
DJANGOS = ("5.2", "6.0", "6.1")
CELERYS = ("5.5", "5.6", "5.7")
#: All that can exist: Django 6 needs Python 3.12.
COMBINATIONS = [
    (python, django, celery)
    for python in PYTHONS
    for django in DJANGOS
    for celery in CELERYS
    if python != "3.11" or django == "5.2"
]
#: Each version of Django on one interpreter that it supports.
SUITES = list(zip(PYTHONS, DJANGOS, strict=True))

#: What each combination came to, for the table at the end of ``matrix``.
results: dict[tuple[str, str, str], str] = {}

nox.options.sessions = ["tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types, and that imports go down the floors only."""
    session.install("-e", ".[dev]")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
@nox.parametrize("python,django,celery", COMBINATIONS)
def matrix(session: nox.Session, django: str, celery: str) -> None:
    """Run the tests with every supported combination; ends with a table of all of them."""
    combination = (str(session.python), django, celery)
    results[combination] = "cannot be installed"
    session.install("-e", ".[test]", f"Django=={django}.*", f"celery=={celery}.*")
    report = Path(session.create_tmp()) / "report.xml"
    report.unlink(missing_ok=True)
    try:
        arguments = session.posargs or ["--ignore=tests/demo"]
        session.run("pytest", "-q", f"--junitxml={report}", *arguments)
    finally:
        results[combination] = counts(report)


@nox.session
@nox.parametrize("python,django", SUITES)
def fidelity(session: nox.Session, django: str) -> None:
    """Send 10,000 generated values of every type, and fuzz the decoder with as many."""
    session.install("-e", ".[test]", f"Django=={django}.*")
    arguments = session.posargs or ["--timeout=1800"]
    session.run("pytest", "-q", "--hypothesis-profile=fidelity", "tests/codec", *arguments)


@nox.session
def faults(session: nox.Session) -> None:
    """Inject every fault at full length, 10,000 events a row where it says so; docs/faults.md."""
    session.install("-e", ".[test]")
    arguments = session.posargs or ["tests/faults"]
    session.run("pytest", "-q", "-s", *arguments, env={"ASYNC_SIGNALS_FAULTS": "full"})


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill senders, workers, relays, both brokers and the database, for ten minutes."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.faults.chaos", *session.posargs)


@nox.session
def control(session: nox.Session) -> None:
    """Show what plain Celery loses under the same faults, beside durable mode."""
    session.install("-e", ".[test]")
    arguments = ["-s", "tests/faults/test_control.py", *session.posargs]
    session.run("pytest", "-q", *arguments, env={"ASYNC_SIGNALS_FAULTS": "full"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the product in four ways, and see that named tests notice each."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.faults.mutants")


@nox.session
def models(session: nox.Session) -> None:
    """Walk the state machine of a delivery 10,000 times, and explore its model."""
    session.install("-e", ".[test]")
    arguments = ["--hypothesis-profile=fidelity", "--timeout=7200", *session.posargs]
    session.run(
        "pytest", "-q", "-s", "tests/models", "tests/ledger/test_state_machine.py", *arguments
    )


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Fuzz the decoder, guided by coverage, for the seconds given after ``--``."""
    session.install("-e", ".[test]", "atheris>=3")
    seconds = session.posargs[0] if session.posargs else "600"
    folder = session.create_tmp()
    arguments = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", folder]
    session.run("python", "-m", "tests.fuzz.decoder", *arguments)


@nox.session
@nox.parametrize("python,django", SUITES)
def django_suites(session: nox.Session, django: str) -> None:
    """Run Django's own suites of signals with asynchronous receivers; docs/django-suites.md."""
    session.install("-e", ".", f"Django=={django}.*")
    version = str(session.run("python", "-m", "django", "--version", silent=True)).strip()
    folder = Path(session.create_tmp())
    source = ["--no-deps", "--no-binary", "django", f"Django=={version}"]
    session.run("python", "-m", "pip", "download", "-q", *source, "--dest", str(folder))
    archive = folder / f"django-{version}.tar.gz"
    session.run("python", "-m", "tests.django_suites.run", str(archive))


def counts(report: Path) -> str:
    """Return how many tests passed and how many did not, from what pytest has written."""
    if not report.exists():
        return "did not start"
    suite = ET.parse(report).getroot()[0]
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return f"{tests - skipped - failed} passed, {failed} failed, {skipped} skipped"


@atexit.register
def print_table() -> None:
    """Print what the combinations came to, after nox has printed its own summary."""
    if results:
        print("\nPython  Django  Celery")
        for combination in COMBINATIONS:
            python, django, celery = combination
            print(f"{python:6}  {django:6}  {celery:6}  {results.get(combination, 'not run')}")
