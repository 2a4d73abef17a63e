"""Fixtures for all tests, and the header that names the real servers in use."""

from __future__ import annotations

import datetime as dt
import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from async_signals import testing
from async_signals.envelope import Envelope

from .testproject.services import FOUND, PORTS

#: Few examples in each run; ``nox -s fidelity`` has all that are promised.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=300, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "fidelity", settings.get_profile("fast"), max_examples=10_000, stateful_step_count=30
)
settings.load_profile("fast")


def pytest_report_header() -> list[str]:
    missing = sorted(set(PORTS) - FOUND)
    return [
        f"real servers used: {', '.join(sorted(FOUND)) or 'none'}"
        + (f"; not found, their tests are skipped: {', '.join(missing)}" if missing else "")
    ]


def pytest_configure(config: pytest.Config) -> None:
    missing = sorted(set(PORTS) - FOUND)
    if missing and os.environ.get("CI") == "true":
        raise pytest.UsageError(
            f"cannot run in CI without {', '.join(missing)}: expected each of {sorted(PORTS)} "
            "on 127.0.0.1. Start it, or run without CI=true to skip what needs it."
        )


def require(service: str) -> None:
    """Skip the test where a real server is missing; in CI the run has failed before."""
    if service not in FOUND:
        pytest.skip(f"no {service} on 127.0.0.1:{PORTS[service]}")


@pytest.fixture(params=["default", "postgresql", "mariadb"])
def alias(request: pytest.FixtureRequest, transactional_db: None) -> str:
    """Each database in turn: SQLite, PostgreSQL, MariaDB."""
    if request.param != "default":
        require(request.param)
    return request.param


@pytest.fixture
def envelope() -> Envelope:
    """One that was made by hand."""
    return Envelope(
        id="0199-1",
        event_id="0199-0",
        receiver="shop.receive",
        signal="shop.signals.done",
        sent_at=dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC),
        sender=None,
        kwargs={"number": 1},
    )


@pytest.fixture
def sent():
    """The envelopes that would be published, in their order."""
    with testing.capture() as envelopes:
        yield envelopes


@pytest.fixture
def inline():
    """Deliveries run in this process, through the real encoding and decoding."""
    with testing.run_inline():
        yield


@pytest.fixture
def connect():
    """``async_signals.connect``; every connection is undone after the test."""
    from async_signals import connect

    made = []

    def connect_for_test(signal, receiver, **options):
        connect(signal, receiver, **options)
        signals = signal if isinstance(signal, (list, tuple)) else [signal]
        senders = options.get("sender")
        senders = senders if isinstance(senders, (list, tuple)) else [senders]
        made.extend((s, receiver, x, options.get("dispatch_uid")) for s in signals for x in senders)

    yield connect_for_test
    for signal, receiver, sender, uid in made:
        signal.disconnect(receiver, sender=sender, dispatch_uid=uid)


def collect_garbage() -> None:
    gc.collect()
    gc.collect()
