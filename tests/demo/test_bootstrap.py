"""A fresh checkout: what is installed when, and what is said when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from demo_project import bootstrap


def test_an_extra_asks_for_its_own_and_the_package_s_distributions():
    demo, test = bootstrap.requirements_of("demo"), bootstrap.requirements_of("test")

    assert {"Django", "celery", "fakeredis", "lupa", "redis"} <= demo
    assert demo | {"pytest"} <= test
    assert "django-async-signals" not in test


def test_what_is_not_installed_is_missing(monkeypatch):
    monkeypatch.setattr(bootstrap, "requirements_of", lambda extra: {"celery", "no-such-thing"})

    assert bootstrap.missing_from("demo") == ["no-such-thing"]


def test_a_stamp_is_fresh_until_pyproject_changes(tmp_path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("dependencies = []")
    path = tmp_path / "demo.stamp"

    assert not bootstrap.Stamp(path, pyproject).is_fresh()
    bootstrap.Stamp(path, pyproject).write()
    assert bootstrap.Stamp(path, pyproject).is_fresh()
    pyproject.write_text("dependencies = ['celery']")
    assert not bootstrap.Stamp(path, pyproject).is_fresh()


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """The steps that ``ensure()`` takes, on a machine where nothing is installed."""
    steps = []
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(bootstrap, "missing_from", lambda extra: ["celery"])
    monkeypatch.setattr(bootstrap, "install", lambda extra: steps.append("install"))

    def run_again():
        steps.append("run again")
        raise SystemExit(0)

    monkeypatch.setattr(bootstrap, "run_again", run_again)
    return steps


def test_the_first_start_installs_and_the_second_does_not(steps):
    with pytest.raises(SystemExit):
        bootstrap.ensure("demo")
    assert steps == ["install", "run again"]

    bootstrap.PYTHON.touch()
    with pytest.raises(SystemExit):
        bootstrap.ensure("demo")
    assert steps == ["install", "run again", "run again"]


def test_a_stamp_without_its_python_installs_again(steps):
    bootstrap.stamp_of("demo").write()

    with pytest.raises(SystemExit):
        bootstrap.ensure("demo")

    assert steps == ["install", "run again"]


def test_inside_the_environment_it_never_runs_itself_again(steps, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(bootstrap.VENV))

    with pytest.raises(SystemExit, match="celery did not install"):
        bootstrap.ensure("demo")

    assert steps == ["install"]


def test_where_all_is_installed_nothing_happens(steps, monkeypatch):
    monkeypatch.setattr(bootstrap, "missing_from", lambda extra: [])

    bootstrap.ensure("demo")

    assert steps == []


def test_a_python_without_venv_names_the_package_to_install(monkeypatch):
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(SystemExit, match=r"sudo apt install python3\.\d+-venv"):
        bootstrap.create()


def test_help_needs_nothing_but_the_standard_library():
    # -S: no site-packages, as on a fresh machine.
    command = [sys.executable, "-S", "-m", "demo_project", "--help"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=bootstrap.CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "--once" in done.stdout


def test_tests_of_the_checkout_pass_their_arguments_to_pytest():
    command = [sys.executable, "-m", "tests", "--version"]
    done = subprocess.run(
        command, cwd=bootstrap.CHECKOUT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "pytest" in done.stdout + done.stderr
