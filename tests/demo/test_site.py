"""The demo's site by itself, without any broker."""

from __future__ import annotations

import pytest


def test_its_own_tests_pass(manage):
    done = manage("test", "movies", BROKER_URL="memory://")

    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr


def test_it_passes_all_checks(manage):
    done = manage("check", "--fail-level", "WARNING")

    assert done.returncode == 0, done.stderr


def test_its_migrations_are_complete(manage):
    done = manage("makemigrations", "--check", "--dry-run", BROKER_URL="memory://")

    assert done.returncode == 0, done.stdout


def test_a_movie_is_found_on_the_command_line(manage):
    assert manage("prepare").returncode == 0

    found = manage("movie_search", "lord of the rings", BROKER_URL="memory://")
    nothing = manage("movie_search", " ", BROKER_URL="memory://")

    assert "The Lord of the Rings: The Two Towers (2002)" in found.stdout, found.stderr
    assert nothing.returncode == 1
    assert "cannot search for nothing" in nothing.stderr


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense://"])
def test_a_database_that_it_cannot_use_is_named(manage, url):
    done = manage("check", DATABASE_URL=url)

    assert done.returncode == 1
    assert "expected postgres://user:password@host/name" in done.stderr


def test_the_secret_key_is_made_once_and_for_me_only(manage, environment, tmp_path):
    manage("check")
    path = tmp_path / "data" / "secret_key"
    key = path.read_text()
    manage("check")

    assert len(key) > 50
    assert path.read_text() == key
    assert path.stat().st_mode & 0o077 == 0
