"""The same pages, under other faces of the admin."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .conftest import THEME

HERE = Path(__file__).parent


@pytest.mark.skipif(bool(THEME), reason="runs the others under a theme")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("theme", ["unfold", "jazzmin"])
def test_everything_works_under_a_theme(theme) -> None:
    """List, page, questions, actions and permissions: the tests of this folder once more."""
    if importlib.util.find_spec(theme) is None:
        pytest.skip(f"django-{theme} is not installed")
    names = ("test_deliveries.py", "test_operating.py", "test_others.py", "test_closed.py")
    environment = {
        **os.environ,
        "ASYNC_SIGNALS_TEST_THEME": theme,
        "ASYNC_SIGNALS_TEST_FOLDER": tempfile.mkdtemp(),
        # Whatever there is of these belongs to the tests around this one.
        "ASYNC_SIGNALS_TEST_POSTGRESQL_PORT": "1",
        "ASYNC_SIGNALS_TEST_MARIADB_PORT": "1",
        "CI": "",
    }

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default",
         *(str(HERE / name) for name in names)],
        env=environment, cwd=HERE.parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
