"""Real brokers, real workers."""

from __future__ import annotations

import json

import pytest

from tests.conftest import require
from tests.testproject import brokers
from tests.worker import Reports, Worker


@pytest.fixture(scope="session")
def reports():
    reports = Reports()
    yield reports
    reports.close()


@pytest.fixture(scope="session", params=["redis", "rabbitmq"])
def broker(request):
    """Each broker in turn, on a queue of this run's own."""
    require(request.param)
    with getattr(brokers, f"{request.param}_broker")().in_use() as broker:
        yield broker


@pytest.fixture(scope="session")
def worker(broker, reports, django_db_setup, django_db_blocker):
    """
    One worker process for each broker; it ends before the test databases do.

    Without a relay, which would publish what other tests have in their ledgers.
    """
    env = {
        "ASYNC_SIGNALS_TEST_SETTINGS": json.dumps({"RELAY": False}),
        "ASYNC_SIGNALS_TEST_CONNECTIONS": "reported",
    }
    with django_db_blocker.unblock():
        worker = Worker(broker, reports, "-E", **env)
    yield worker
    assert worker.stop() == 0, worker.output


@pytest.fixture
def publishing(broker, settings):
    """This process publishes to the broker of the worker."""
    settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path}
    return broker
