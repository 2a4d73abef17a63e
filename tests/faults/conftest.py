"""What each test of a fault may ask for."""

from __future__ import annotations

import contextlib
import logging

import pytest

from async_signals.ledger import pausing
from tests.conftest import require
from tests.testproject.routers import LedgerElsewhere

from . import oracle
from .rig import Rig
from .scale import IS_FULL, scaled


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if oracle.lines and (IS_FULL or terminalreporter.config.get_verbosity() > 0):
        terminalreporter.section("faults")
        for line in oracle.lines:
            terminalreporter.write_line(line)


@pytest.fixture
def ledger(transactional_db, monkeypatch):
    """The ledger of this process, as the workers have it: on PostgreSQL."""
    require("postgresql")
    monkeypatch.setattr(LedgerElsewhere, "alias", oracle.USING)
    pausing.forget()
    yield oracle.USING
    pausing.forget()


@pytest.fixture
def rig(ledger, settings, tmp_path):
    """What the test starts ends with it."""
    with contextlib.ExitStack() as stack:
        yield Rig(stack, settings, tmp_path)


@pytest.fixture(params=["redis", "rabbitmq"])
def kind(request) -> str:
    """Each kind of broker."""
    return request.param


@pytest.fixture(params=scaled(["redis"], ["redis", "rabbitmq"]))
def some_kind(request) -> str:
    """Each kind of broker in the full version, one in the short one."""
    return request.param


@pytest.fixture
def told(caplog):
    """What this process has logged, by level."""

    def at(level: int) -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "async_signals" and record.levelno == level
        ]

    caplog.set_level(logging.INFO, "async_signals")
    return at
