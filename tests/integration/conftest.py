"""Real brokers, real workers."""

from __future__ import annotations

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
    broker = getattr(brokers, f"{request.param}_broker")()
    broker.make_app()
    yield broker
    broker.clean()


@pytest.fixture(scope="session")
def worker(broker, reports, django_db_setup, django_db_blocker):
    """One worker process for each broker; it ends before the test databases do."""
    with django_db_blocker.unblock():
        worker = Worker(broker, reports, "-E")
    yield worker
    assert worker.stop() == 0, worker.output


@pytest.fixture
def publishing(broker, settings):
    """This process publishes to the broker of the worker."""
    settings.ASYNC_SIGNALS = {"CELERY_APP": broker.app_path}
    return broker
