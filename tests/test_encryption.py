"""Encrypted messages, keys that rotate, and what is said where a key is missing."""

from __future__ import annotations

import sys

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal

from async_signals import EnvelopeError
from async_signals.wire.encryption import _box
from async_signals.wire.envelope import pack, unpack
from async_signals.wire.signing import sign

fernet = pytest.importorskip("cryptography.fernet")

OLD, NEW = fernet.Fernet.generate_key().decode(), fernet.Fernet.generate_key()


@pytest.fixture
def keys(settings):
    """Set the keys of this process."""

    def set_keys(*keys) -> None:
        settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": list(keys)}

    return set_keys


class TestEncrypted:
    def test_nothing_of_it_can_be_read(self, envelope, keys) -> None:
        """Neither names nor values stand in the message."""
        keys(NEW)

        wire = pack([envelope])

        assert unpack(wire) == [envelope]
        assert "number" not in wire
        assert "shop" not in wire
        assert wire.partition(":")[2].startswith("fernet:")

    def test_it_is_signed_as_well(self, envelope, keys) -> None:
        """A changed message is refused by its signature, before it is decrypted."""
        keys(NEW)

        wire = pack([envelope])
        changed = wire[:-1] + ("A" if wire[-1] != "A" else "B")

        with pytest.raises(EnvelopeError, match="cannot trust the message"):
            unpack(changed)

    def test_off_is_plain(self, envelope) -> None:
        """Without keys a message is what it was."""
        assert pack([envelope]).partition(":")[2].startswith('{"v":1')

    def test_through_a_receiver(self, connect, inline, keys, db) -> None:
        """From ``send()`` to the receiver."""
        keys(NEW)
        got, signal = [], Signal()

        def receive(number, **kwargs) -> None:
            got.append(number)

        connect(signal, receive, on_commit=False)
        signal.send(sender=None, number=1)

        assert got == [1]


class TestRotation:
    def test_a_retired_key_decrypts(self, envelope, keys) -> None:
        """The first key encrypts, each of them decrypts, and plain messages are read too."""
        plain = pack([envelope])
        keys(OLD)
        by_old = pack([envelope])
        keys(NEW, OLD)
        by_new = pack([envelope])

        assert unpack(plain) == unpack(by_old) == unpack(by_new) == [envelope]
        keys(OLD)
        with pytest.raises(EnvelopeError):
            unpack(by_new)

    def test_another_key(self, envelope, keys) -> None:
        """Signed, and still not readable: the message says what to do."""
        keys(OLD)
        by_old = pack([envelope])
        keys(NEW)

        with pytest.raises(EnvelopeError) as caught:
            unpack(by_old)
        assert str(caught.value) == (
            "cannot decrypt the message: expected one encrypted with one of "
            "ASYNC_SIGNALS['ENCRYPTION_KEYS'], got: another key. Give workers a new key before "
            "senders, and keep a retired one in the list, not first, until its messages are "
            "consumed."
        )

    @pytest.mark.parametrize("body", ["", "abc", "\u00e9", "\ud800", "\0"], ids=ascii)
    def test_what_is_no_ciphertext(self, body, keys, settings) -> None:
        """Whatever stands there is refused as everything is that no key decrypts."""
        keys(NEW)
        settings.ASYNC_SIGNALS["SIGNING"] = False
        for wire in (f":fernet:{body}", sign(f"fernet:{body}")):
            with pytest.raises(EnvelopeError, match="cannot decrypt the message"):
                unpack(wire)

    def test_a_worker_without_keys(self, envelope, keys, settings) -> None:
        """The order of deployment would have avoided it."""
        keys(NEW)
        wire = pack([envelope])
        settings.ASYNC_SIGNALS = {}

        with pytest.raises(EnvelopeError) as caught:
            unpack(wire)
        assert str(caught.value) == (
            "cannot decrypt the message: expected ASYNC_SIGNALS['ENCRYPTION_KEYS'], got: none. "
            "Give workers the keys before senders."
        )


def test_without_the_package(envelope, keys, monkeypatch) -> None:
    """An error of the settings with the command that cures it, at send and as a check."""
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    _box.cache_clear()
    keys(NEW)
    message = (
        "cannot use ASYNC_SIGNALS['ENCRYPTION_KEYS']: expected the package cryptography, got: "
        "none. pip install 'django-async-signals[encryption]'."
    )

    with pytest.raises(ImproperlyConfigured) as caught:
        pack([envelope])
    assert str(caught.value) == message
    assert checks.run_checks(tags=["async_signals"]) == [
        checks.Error(message, id="async_signals.E001")
    ]
