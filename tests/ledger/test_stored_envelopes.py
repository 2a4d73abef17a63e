"""What the ledger keeps of a delivery can be delivered again, and be encrypted."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet

from async_signals import EnvelopeError
from async_signals.ids import new_id
from async_signals.wire.envelope import (
    Reference,
    bundled,
    dump,
    load,
    pack,
    seal,
    seal_alike,
    unbundled,
)


def test_what_is_stored_is_read_again(envelope) -> None:
    """Every field survives, the receiver and the payload's version too."""
    newer = envelope._replace(payload_version=3)

    assert load(dump(envelope)) == envelope
    assert load(dump(newer)) == newer


def test_it_is_not_signed(envelope, settings) -> None:
    """A waiting delivery survives a change of SECRET_KEY."""
    text = dump(envelope)

    settings.SECRET_KEY = "another"

    assert json.loads(text)["receiver"] == "shop.receive"
    assert load(text) == envelope


def test_it_is_encrypted_where_there_are_keys(envelope, settings) -> None:
    """With ENCRYPTION_KEYS, the database holds nothing readable."""
    key = Fernet.generate_key().decode()
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [key]}
    text = dump(envelope)

    assert text.startswith("fernet:")
    assert load(text) == envelope
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    with pytest.raises(EnvelopeError, match=r"^cannot decrypt the message: "):
        load(text)


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", "{", '{"v":1,"receiver":"x"}'])
def test_rubbish_is_refused(text) -> None:
    """A damaged row gives one kind of error, which quotes nothing of it."""
    with pytest.raises(EnvelopeError, match=r"^cannot read the stored envelope: expected an "):
        load(text)


def test_a_bundle_of_another_size(envelope) -> None:
    """A row that says how many it stands for, and has others, is refused as damaged."""
    text = bundled([dump(envelope), seal([envelope, envelope])])
    assert [each._replace(id="") for each in unbundled(text, 3)] == [envelope._replace(id="")] * 3
    for size in (1, 2, 4):
        with pytest.raises(EnvelopeError, match=f"expected deliveries: {size}, got: 3"):
            unbundled(text, size)
    reference = Reference(id="1", receiver="x", epoch=0, using="default")
    with pytest.raises(EnvelopeError, match="expected deliveries: 1, got: 0"):
        load(seal([reference]))


def test_what_is_in_a_bundle_gets_its_id_when_it_is_read(envelope) -> None:
    """In its order, which lists show."""
    text = bundled([dump(envelope), seal([envelope._replace(id="")] * 2)])

    ids = [each.id for each in unbundled(text, 3)]
    assert ids == sorted(set(ids))


def test_an_event_gets_its_id_there_if_nobody_knows_of_it(envelope) -> None:
    """Always the same, and none that another event has, whatever the bundles have in common."""
    known = new_id()

    def line() -> str:
        return seal_alike(
            envelope._replace(id=""),
            alone=len(dump(envelope)),
            events=[known, "", ""],
            sent=[1, 2, 3],
            senders=[None] * 3,
            arguments=[envelope.kwargs] * 3,
        )[0]

    text = bundled([line(), line()])
    events = [each.event_id for each in unbundled(text, 6)]

    assert [each.event_id for each in unbundled(text, 6)] == events
    assert (events[0], events[3], len(set(events))) == (known, known, 5)


def test_a_message_is_no_stored_envelope(envelope) -> None:
    """What was signed for the broker, or holds several deliveries, is refused."""
    with pytest.raises(EnvelopeError):
        load(pack([envelope]))
    two = json.loads(dump(envelope))
    two["deliveries"] *= 2
    with pytest.raises(EnvelopeError) as caught:
        load(json.dumps(two))
    assert str(caught.value) == (
        "cannot read the stored envelope: expected deliveries: 1, got: 2. "
        "Discard the delivery, or restore its row."
    )
