"""Fixtures for all tests, and the header that names the real servers in use."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import os

import django
import pytest
from hypothesis import HealthCheck, settings

from async_signals import registry, testing
from async_signals.exceptions import DuplicateReceiverError, ReceiverNotFoundError
from async_signals.sending.outlet import outlet
from async_signals.wire.envelope import Envelope

from .testproject import brokers
from .testproject.routers import LedgerElsewhere
from .testproject.services import FOUND, PORTS

#: Few examples in each run; ``nox -s fidelity`` has all that are promised.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=300, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "fidelity", settings.get_profile("fast"), max_examples=10_000, stateful_step_count=30
)
settings.load_profile("fast")


CLOSED = 9  # A port that nobody listens on.
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


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


@pytest.fixture(scope="session", autouse=True)
def _names_of_the_dead_are_free():
    """
    Let a test connect a receiver under the name of one that only garbage keeps alive.

    The traceback of an expected error holds the frames of its test, and with them what the test has
    connected, in a circle until Python collects it.
    """
    register = registry.register

    def collect_and_register(*args, **kwargs):
        with contextlib.suppress(DuplicateReceiverError):
            return register(*args, **kwargs)
        gc.collect()
        try:
            return register(*args, **kwargs)
        except DuplicateReceiverError as exc:
            name = kwargs.get("name")
            for key in {name, *kwargs.get("aliases", ())} - {None}:
                with contextlib.suppress(ReceiverNotFoundError):
                    holders = gc.get_referrers(registry.get(key).function)
                    exc.add_note(f"{key} is kept alive by {[repr(each)[:300] for each in holders]}")
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "register", collect_and_register)
        yield


@pytest.fixture(params=["default", "postgresql", "mariadb"])
def alias(request: pytest.FixtureRequest, transactional_db: None) -> str:
    """Each database in turn: SQLite, PostgreSQL, MariaDB."""
    if request.param != "default":
        require(request.param)
    return request.param


@pytest.fixture
def ledger(alias, settings, monkeypatch):
    """The alias of the ledger: SQLite, PostgreSQL and MariaDB in turn."""
    from async_signals.ledger import pausing

    monkeypatch.setattr(LedgerElsewhere, "alias", alias)
    settings.DATABASE_ROUTERS = ["tests.testproject.routers.LedgerElsewhere"]
    pausing.forget()
    yield alias
    pausing.forget()


@pytest.fixture
def envelope() -> Envelope:
    """One that was made by hand."""
    return Envelope(
        id="0199-1",
        event_id="0199-0",
        receiver="shop.receive",
        signal="shop.signals.done",
        sent=dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC).isoformat(),
        sender=None,
        kwargs={"number": 1},
    )


@pytest.fixture
def sent():
    """The envelopes that would be published, in their order."""
    with testing.capture() as envelopes:
        yield envelopes


@pytest.fixture
def lost():
    """The sender dies between commit and publish: nothing leaves it."""
    token = outlet.set(lambda messages: None)
    yield
    outlet.reset(token)


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


def mail_through(settings, backend: str) -> None:
    """Send mail with *backend*, in the words of the Django that is installed."""
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend}}
    else:
        settings.EMAIL_BACKEND = backend


@pytest.fixture
def admins(settings) -> None:
    """Alerts go to the ADMINS."""
    settings.ASYNC_SIGNALS = {"ALERT_ADMINS": True}
    settings.ADMINS = ["ada@shop.test" if django.VERSION >= (6, 0) else ("Ada", "ada@shop.test")]
    mail_through(settings, LOCMEM)


@pytest.fixture
def no_broker(settings):
    """Nobody listens where the broker should."""
    broker = brokers.redis_broker(CLOSED, name="closed")
    broker.make_app()
    settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path, "PUBLISH_TIMEOUT": 0.5}


@pytest.fixture
def gates(tmp_path):
    """Two files, each of which holds receivers until the test lets them go."""
    from tests.testproject.settings import FOLDER

    paths = [FOLDER / f"gate-{tmp_path.name}-{number}" for number in range(2)]
    for path in paths:
        path.touch()
    yield paths
    for path in paths:
        path.unlink(missing_ok=True)
