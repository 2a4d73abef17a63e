"""Whatever was not signed with a key of this process is refused before it is read."""

from __future__ import annotations

import pytest
from django.core import checks

from async_signals import EnvelopeError
from async_signals.wire.envelope import pack, unpack


class TestSignature:
    def test_every_changed_character_is_noticed(self, envelope) -> None:
        """No byte of a message can be changed, in the signature or after it."""
        wire = pack([envelope])
        for position in range(len(wire)):
            forged = (
                wire[:position] + ("0" if wire[position] != "0" else "1") + wire[position + 1 :]
            )
            with pytest.raises(EnvelopeError, match="cannot trust the message"):
                unpack(forged)

    def test_keys_rotate(self, envelope, settings) -> None:
        """A retired key is read while it stands in SECRET_KEY_FALLBACKS, and not after."""
        wire = pack([envelope])
        settings.SECRET_KEY, old = "a new key", settings.SECRET_KEY

        with pytest.raises(EnvelopeError) as caught:
            unpack(wire)
        assert str(caught.value) == (
            "cannot trust the message: expected a signature made with SECRET_KEY or one of "
            "SECRET_KEY_FALLBACKS, got: another. Give sender and worker the same keys; list a "
            "retired key in SECRET_KEY_FALLBACKS until its messages are consumed."
        )
        settings.SECRET_KEY_FALLBACKS = [old]
        assert unpack(wire) == [envelope]

    def test_an_empty_key_is_none(self, envelope, settings) -> None:
        """Everybody has it: what is signed with it is forged."""
        from async_signals.wire.signing import _signature

        _, _, body = pack([envelope]).partition(":")
        settings.SECRET_KEY_FALLBACKS = [""]

        with pytest.raises(EnvelopeError, match="cannot trust"):
            unpack(f"{_signature('', body)}:{body}")

    def test_fallbacks_without_a_key(self, settings) -> None:
        """They are not read, and ``manage.py check`` says so."""
        settings.ASYNC_SIGNALS = {"SIGNING_KEY_FALLBACKS": ["retired"]}

        assert checks.run_checks(tags=["async_signals"]) == [
            checks.Warning(
                "SIGNING_KEY_FALLBACKS is not read: without SIGNING_KEY, messages are signed with "
                "Django's SECRET_KEY.",
                hint="Set SIGNING_KEY, too; or list retired keys in SECRET_KEY_FALLBACKS.",
                id="async_signals.W006",
            )
        ]
        settings.ASYNC_SIGNALS = {"SIGNING_KEY": "own", "SIGNING_KEY_FALLBACKS": ["retired"]}
        assert checks.run_checks(tags=["async_signals"]) == []

    def test_a_signature_of_another_purpose_does_not_fit(self, envelope) -> None:
        """What the site signs elsewhere with the same key is no message."""
        from django.core import signing

        with pytest.raises(EnvelopeError):
            unpack(signing.dumps({"v": 1}))

    @pytest.mark.parametrize("wire", ["", ":", "é:x", "a:\udcff"])
    def test_text_that_is_none(self, wire) -> None:
        """Whatever text it is, it is refused as one that cannot be trusted."""
        with pytest.raises(EnvelopeError, match="cannot trust"):
            unpack(wire)

    def test_the_signature_is_verified_first(self, envelope, monkeypatch) -> None:
        """Nothing of a forged message is decrypted or parsed."""
        from async_signals.wire import envelope as module

        def refuse(*args) -> None:
            raise AssertionError("too early")

        wire = pack([envelope])
        monkeypatch.setattr(module, "decrypted", refuse)
        monkeypatch.setattr(module.json, "loads", refuse)
        with pytest.raises(EnvelopeError, match="cannot trust the message"):
            unpack(wire + " ")


class TestOwnKey:
    def test_it_replaces_djangos(self, envelope, settings) -> None:
        """``SIGNING_KEY``: a site's other secrets sign no message any more."""
        by_django = pack([envelope])
        settings.ASYNC_SIGNALS = {"SIGNING_KEY": "our own"}

        assert unpack(pack([envelope])) == [envelope]
        with pytest.raises(EnvelopeError) as caught:
            unpack(by_django)
        assert str(caught.value) == (
            "cannot trust the message: expected a signature made with SIGNING_KEY or one of "
            "SIGNING_KEY_FALLBACKS, got: another. Give sender and worker the same keys; list a "
            "retired key in SIGNING_KEY_FALLBACKS until its messages are consumed."
        )

    def test_it_rotates(self, envelope, settings) -> None:
        """A retired key, Django's included, verifies while it stands in the fallbacks."""
        by_django = pack([envelope])
        settings.ASYNC_SIGNALS = {"SIGNING_KEY": b"first"}
        by_first = pack([envelope])
        settings.ASYNC_SIGNALS = {
            "SIGNING_KEY": "second",
            "SIGNING_KEY_FALLBACKS": [b"first", settings.SECRET_KEY],
        }

        assert unpack(by_django) == unpack(by_first) == unpack(pack([envelope])) == [envelope]

    def test_fallbacks_do_not_sign(self, envelope, settings) -> None:
        """A new message needs the new key."""
        settings.ASYNC_SIGNALS = {"SIGNING_KEY": "new", "SIGNING_KEY_FALLBACKS": ["old"]}
        wire = pack([envelope])

        settings.ASYNC_SIGNALS = {"SIGNING_KEY": "old"}
        with pytest.raises(EnvelopeError, match="cannot trust"):
            unpack(wire)


class TestOff:
    def test_nothing_is_signed_nor_verified(self, envelope, settings) -> None:
        """``SIGNING=False``: signed messages that still wait are read as well."""
        signed = pack([envelope])
        settings.ASYNC_SIGNALS = {"SIGNING": False}

        assert pack([envelope]).startswith(':{"v":1')
        assert unpack(pack([envelope])) == unpack(signed) == [envelope]

    def test_a_worker_that_verifies_refuses_it(self, envelope, settings) -> None:
        """An unsigned message is a forged one for everybody else."""
        settings.ASYNC_SIGNALS = {"SIGNING": False}
        unsigned = pack([envelope])
        settings.ASYNC_SIGNALS = {}

        with pytest.raises(EnvelopeError, match="cannot trust"):
            unpack(unsigned)

    def test_the_check_warns(self, settings) -> None:
        """``manage.py check`` says what it means."""
        settings.ASYNC_SIGNALS = {"SIGNING": False}

        assert checks.run_checks(tags=["async_signals"]) == [
            checks.Warning(
                "messages are not signed: whoever can write to the broker can call any receiver "
                "with any arguments.",
                hint="Remove 'SIGNING': False from ASYNC_SIGNALS.",
                id="async_signals.W003",
            )
        ]
