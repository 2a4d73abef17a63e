"""
Messages that nobody of ours has sent, or not to this receiver, through a real queue.

Each is logged with the cure, no receiver runs for it, and the worker goes on.
"""

from __future__ import annotations

import json
import uuid

import pytest

from async_signals import MessageTooLargeError, testing
from async_signals.models import Delivery
from async_signals.publisher import celery_app
from async_signals.wire.envelope import load, pack
from async_signals.wire.signing import sign
from tests.testapp import signals

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("worker", "publishing"),
]

APP = "tests.testapp.receivers"


@pytest.fixture
def number() -> str:
    """Tells the deliveries of one test from those of all others."""
    return uuid.uuid4().hex


@pytest.fixture
def envelope(number):
    """A genuine delivery to ``plain``, which has not been published."""
    with testing.capture() as envelopes:
        signals.reported.send(sender=None, number=number)
    [envelope] = [one for one in envelopes if one.receiver == f"{APP}.plain"]
    return envelope


@pytest.fixture
def refused(worker, reports, number):
    """Publish a text to the task of a receiver, and see it refused with the message given."""

    def see_refused(wire: str, *messages: str, receiver: str = "plain") -> None:
        before = worker.position
        celery_app().send_task(f"{APP}.{receiver}", (wire,), ignore_result=True)
        for message in messages:
            worker.wait_for_line(message, after=before)
        signals.reported.send(sender=None, number=f"after {number}")
        for name in ("plain", "awaited"):
            reports.wait(receiver=name, number=f"after {number}")
        with pytest.raises(AssertionError, match="expected 1 reports"):
            reports.wait(receiver=receiver, number=number, timeout=0.2)

    return see_refused


def resigned(wire: str, change) -> str:
    """Let *change* alter what the message says, and sign it as one who has the key."""
    message = json.loads(wire.partition(":")[2])
    change(message)
    return sign(json.dumps(message))


def with_number(envelope, value: str) -> str:
    """Sign *envelope* with the JSON *value* for its number."""
    body = pack([envelope._replace(kwargs={"number": "?"})]).partition(":")[2]
    return sign(body.replace('"?"', value))


UNTRUSTED = (
    "cannot trust the message: expected a signature made with SECRET_KEY or one of "
    "SECRET_KEY_FALLBACKS, got: another. Give sender and worker the same keys"
)


class TestSignature:
    def test_forged(self, envelope, number, refused) -> None:
        """One letter of an argument is another: the signature does not fit."""
        forged = envelope._replace(kwargs={"number": f"{number} changed"})
        signature = pack([envelope]).partition(":")[0]

        refused(f"{signature}:{pack([forged]).partition(':')[2]}", UNTRUSTED)

    def test_truncated(self, envelope, refused) -> None:
        """The end of the message is missing."""
        refused(pack([envelope])[:-10], UNTRUSTED)

    def test_signed_with_an_old_key(self, envelope, settings, refused) -> None:
        """A key that is retired and stands in no fallbacks signs nothing any more."""
        key, settings.SECRET_KEY = settings.SECRET_KEY, "retired"
        wire = pack([envelope])
        settings.SECRET_KEY = key

        refused(wire, UNTRUSTED, "list a retired key in SECRET_KEY_FALLBACKS until")


class TestAddress:
    def test_replayed_to_another_receiver(self, envelope, refused) -> None:
        """A genuine message fits no other receiver than its own."""
        refused(
            pack([envelope]),
            f"cannot run {APP}.awaited: expected a message for this receiver, got: one for "
            f"{APP}.plain. A message fits no other receiver than its own; name what was renamed "
            "with @async_receiver(..., aliases=[old name]).",
            receiver="awaited",
        )


class TestVersions:
    def test_a_future_wire_form(self, envelope, refused) -> None:
        """Written by a release that this worker is not: kept, for a newer one."""
        refused(
            resigned(pack([envelope]), lambda message: message.update(v=99)),
            "cannot read envelope version 99: expected one of [1]. Deploy workers before senders.",
        )
        row = Delivery.objects.get(exception__endswith="FutureEnvelopeError")
        assert (row.receiver, row.state) == (f"{APP}.plain", "failed")
        assert json.loads(row.envelope)["v"] == 99

    def test_a_future_payload(self, envelope, refused) -> None:
        """Sent to a newer version of the receiver: kept, for a newer worker."""
        newer = envelope._replace(payload_version=2)
        refused(
            pack([newer]),
            f"cannot run {APP}.plain: expected a payload of version 1 or older, got: version 2. "
            "Deploy workers before senders.",
        )
        row = Delivery.objects.get(pk=envelope.id)
        assert (row.state, load(row.envelope)) == ("failed", newer)


class TestSize:
    def test_300_kib_are_refused_at_send(self, number, reports) -> None:
        """The sender is told; nothing reaches the queue, and what follows does."""
        with pytest.raises(MessageTooLargeError, match="'padding'"):
            signals.reported.send(sender=None, number=number, padding="x" * 300 * 1024)
        signals.reported.send(sender=None, number=f"after {number}")

        reports.wait(receiver="plain", number=f"after {number}")
        with pytest.raises(AssertionError, match="expected 1 reports"):
            reports.wait(receiver="plain", number=number, timeout=0.2)

    def test_a_raised_limit_lets_them_through(self, number, reports, settings) -> None:
        """The limit is the sender's: a worker runs what it was sent."""
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "MAX_MESSAGE_SIZE": 400 * 1024}

        signals.reported.send(sender=None, number=number, padding="x" * 300 * 1024)

        reports.wait(receiver="plain", number=number)


class TestContent:
    """Signed by one who has the key, and still nothing that a receiver can be called with."""

    def test_10_000_levels_deep(self, envelope, refused) -> None:
        """The parser gives up in order, and takes no worker with it."""
        refused(
            with_number(envelope, "[" * 10_000 + "]" * 10_000),
            "cannot read the message: expected an envelope of version 1, got: JSON that raises "
            "RecursionError. Deploy workers before senders.",
        )

    def test_400_levels_of_tags(self, envelope, refused) -> None:
        """Shallow enough for the parser, and too deep for the decoder."""
        refused(
            with_number(envelope, '{"$":"tuple","v":[' * 400 + "]}" * 400),
            "cannot decode a value: expected one not nested beyond reason, got: RecursionError.",
        )

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                {"$": "class", "v": ["path", "tests.nowhere:Gone"]},
                "cannot decode a value: expected 'tests.nowhere:Gone' in a module that this "
                "process has imported, got: none. Import the module in AppConfig.ready(), and "
                "deploy workers before senders.",
            ),
            (
                {"$": "shop.money", "v": 1},
                "cannot decode a value of type 'shop.money': expected a type that this process "
                "knows. Deploy workers before senders, and call codec.register() in "
                "AppConfig.ready().",
            ),
        ],
        ids=["no such class", "no such tag"],
    )
    def test_what_does_not_exist(self, value, message, envelope, refused) -> None:
        """A class or a type that this worker has not: nothing is imported to look for it."""
        refused(pack([envelope._replace(kwargs={"number": value})]), message)
