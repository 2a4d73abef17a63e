"""Encrypted messages through a real broker to a worker whose keys are being rotated."""

from __future__ import annotations

import dataclasses
import json
import uuid

import pytest
from django.dispatch import Signal

from async_signals.publisher import celery_app
from async_signals.wire.envelope import unpack
from tests.conftest import require
from tests.testapp import signals
from tests.testproject import brokers
from tests.worker import Worker

fernet = pytest.importorskip("cryptography.fernet")

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

OLD, NEW, FOREIGN = (fernet.Fernet.generate_key().decode() for _ in range(3))
APP = "tests.testapp.receivers"


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def keyed_broker(request):
    """A queue of its own, and keys in Redis that no other worker's share."""
    require(request.param)
    broker = getattr(brokers, f"{request.param}_broker")(name=f"{request.param}_keyed")
    options = dict(broker.transport_options)
    if "global_keyprefix" in options:
        options["global_keyprefix"] += "keyed:"
    with dataclasses.replace(broker, transport_options=options).in_use() as broker:
        yield broker


@pytest.fixture(scope="module")
def keyed_worker(keyed_broker, reports, django_db_setup, django_db_blocker):
    """A worker that has the new key, and still the old one."""
    settings = json.dumps({"ENCRYPTION_KEYS": [NEW, OLD]})
    with django_db_blocker.unblock():
        worker = Worker(keyed_broker, reports, ASYNC_SIGNALS_TEST_SETTINGS=settings)
    yield worker
    assert worker.stop() == 0, worker.output


@pytest.fixture
def send(keyed_broker, keyed_worker, settings):
    """Send a number with the keys given, as a process that is deployed with them."""

    def send_with(*keys: str) -> str:
        number = uuid.uuid4().hex
        settings.ASYNC_SIGNALS = {
            "CELERY_APP": keyed_broker.app_path,
            "ENCRYPTION_KEYS": list(keys),
        }
        signals.reported.send(sender=None, number=number)
        return number

    return send_with


class TestRotation:
    @pytest.mark.parametrize(
        "keys",
        [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,), ()],
        ids=["before", "appended", "moved to the front", "retired", "not encrypted yet"],
    )
    def test_each_step_arrives(self, keys, send, reports) -> None:
        """In every state that senders are in while keys are rotated."""
        number = send(*keys)

        reports.wait(receiver="plain", number=number)
        reports.wait(receiver="awaited", number=number)

    def test_a_foreign_key(self, send, keyed_worker, reports) -> None:
        """Logged with the cure, run by no receiver, and the worker goes on."""
        before = keyed_worker.position
        number = send(FOREIGN)
        keyed_worker.wait_for_line("cannot decrypt the message: expected one", after=before)

        assert number not in keyed_worker.output
        reports.wait(receiver="plain", number=send(NEW))
        with pytest.raises(AssertionError, match="expected 1 reports"):
            reports.wait(receiver="plain", number=number, timeout=0.2)


def test_nothing_in_the_queue_can_be_read(keyed_broker, settings, connect) -> None:
    """What waits in the broker shows the receiver's name, and nothing that was sent."""
    signal, number = Signal(), uuid.uuid4().hex
    queue = f"{keyed_broker.queue}-read"

    def receive(**kwargs) -> None: ...

    connect(signal, receive, name=f"only.here.{number}", queue=queue)
    settings.ASYNC_SIGNALS = {"CELERY_APP": keyed_broker.app_path, "ENCRYPTION_KEYS": [NEW]}
    signal.send(sender=None, secret=f"the secret {number}")

    app = celery_app()
    with app.connection_for_read() as connection:
        bound = app.amqp.queues[queue](connection.default_channel)
        message = bound.get(no_ack=True)
        bound.delete()
    body = message.body if isinstance(message.body, str) else message.body.decode()
    assert "secret" not in body
    assert "secret" not in json.dumps(message.headers)
    [envelope] = unpack(message.decode()[0][0])
    assert envelope.kwargs == {"secret": f"the secret {number}"}
