"""Fixtures of the codec's tests: nothing here waits for a commit, so no table is emptied."""

from __future__ import annotations

import pytest

from tests.conftest import require


@pytest.fixture(params=["default", "postgresql", "mariadb"])
def alias(request: pytest.FixtureRequest, db: None) -> str:
    """Each database in turn: SQLite, PostgreSQL, MariaDB."""
    if request.param != "default":
        require(request.param)
    return request.param
