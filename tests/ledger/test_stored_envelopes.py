"""What the ledger keeps of a delivery can be delivered again, and be encrypted."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet
from django.db import connections

from async_signals import EnvelopeError
from async_signals.models import Delivery
from async_signals.wire.envelope import Reference, bundled, dump, load, pack, seal, unbundled
from tests.conftest import require


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
    """In its order, which lists show; an event has one only if nobody else knows of it."""
    alone = envelope._replace(id="", event_id="")
    read = unbundled(bundled([dump(envelope), seal([alone, alone])]), 3)

    ids = [each.id for each in read]
    assert ids == sorted(set(ids))
    assert read[0].event_id == envelope.event_id
    assert len({each.event_id for each in read} - {""}) == 3


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


@pytest.mark.django_db(databases="__all__")
def test_postgresql_compresses_it_with_lz4() -> None:
    """Where the server can: senders of large transactions wait for less than half as long."""
    require("postgresql")
    with connections["postgresql"].cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute "
            "WHERE attcompression = 'l' AND attrelid = %s::regclass",
            [Delivery._meta.db_table],
        )
        found = [name for (name,) in cursor.fetchall()]
        cursor.execute("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
        [can] = cursor.fetchone() or [[]]
    assert found == (["envelope"] if "lz4" in can else [])
