"""Receivers read what was sent to their older selves."""

from __future__ import annotations

import pytest
from django.dispatch import Signal

from async_signals import DecodeError, EnvelopeError, connect
from async_signals.executor import execute
from async_signals.wire.envelope import pack, unpack

registered = Signal()


def split_name(kwargs):
    """From version 1, which had a name, to version 2, which has two."""
    kwargs["first"], _, kwargs["last"] = kwargs.pop("name").partition(" ")
    return kwargs


def add_title(kwargs):
    """From version 2 to version 3."""
    return {**kwargs, "title": "Dr"}


arrived = []


def greet(sender, signal, **kwargs) -> None:
    arrived.append(kwargs)


@pytest.fixture
def got(connect):
    connect(
        registered, greet, name="shop.greet", on_commit=False, upcasters=[split_name, add_title]
    )
    arrived.clear()
    return arrived


def older(envelope, version, **kwargs) -> str:
    """The message that an earlier release of the site would have sent."""
    return pack([envelope._replace(payload_version=version, kwargs=kwargs)])


class TestVersions:
    def test_the_version_is_the_number_of_upcasters_plus_one(self, got, sent) -> None:
        """It travels with the delivery; the newest arguments are not translated."""
        registered.send(sender=None, first="Ada", last="Lovelace", title="Countess")

        assert [envelope.payload_version for envelope in sent] == [3]
        assert unpack(pack(sent)) == sent
        execute(pack(sent), name="shop.greet")
        assert got == [{"first": "Ada", "last": "Lovelace", "title": "Countess"}]

    def test_one_without_upcasters_sends_none(self, connect, sent) -> None:
        """The message of a receiver that never changed is not longer for it."""

        def receive(**kwargs) -> None: ...

        signal = Signal()
        connect(signal, receive, on_commit=False)
        signal.send(sender=None)

        assert [envelope.payload_version for envelope in sent] == [1]
        assert '"payload"' not in pack(sent)

    @pytest.mark.parametrize(
        ("version", "kwargs", "arrives"),
        [
            (1, {"name": "Ada L"}, {"first": "Ada", "last": "L", "title": "Dr"}),
            (2, {"first": "Ada", "last": "L"}, {"first": "Ada", "last": "L", "title": "Dr"}),
        ],
    )
    def test_an_older_one_is_translated(self, version, kwargs, arrives, got, sent) -> None:
        """By each upcaster from its version on, in their order."""
        registered.send(sender=None)

        execute(older(sent[0], version, **kwargs), name="shop.greet")

        assert got == [arrives]

    def test_a_newer_one_is_refused(self, got, sent) -> None:
        """With the order of deployment that would have avoided it."""
        registered.send(sender=None)

        with pytest.raises(EnvelopeError) as caught:
            execute(older(sent[0], 4), name="shop.greet")
        assert str(caught.value) == (
            "cannot run shop.greet: expected a payload of version 3 or older, got: version 4. "
            "Deploy workers before senders."
        )
        assert got == []

    @pytest.mark.parametrize("version", [0, -1, "2", 2.0, False, None])
    def test_what_is_no_version(self, version, got, sent) -> None:
        """Signed, and still no envelope."""
        registered.send(sender=None)

        with pytest.raises(EnvelopeError, match="got: JSON that raises ValueError"):
            execute(older(sent[0], version), name="shop.greet")


class TestUpcasters:
    def test_one_that_returns_nothing(self, sent) -> None:
        """The most likely mistake is named with its cure."""

        def forgetful(kwargs):
            kwargs["first"] = "Ada"

        def receive(**kwargs) -> None: ...

        signal = Signal()
        connect(signal, receive, name="shop.forgetful", on_commit=False, upcasters=[forgetful])
        signal.send(sender=None)

        with pytest.raises(DecodeError) as caught:
            execute(older(sent[0], 1), name="shop.forgetful")
        assert str(caught.value) == (
            "cannot run shop.forgetful: expected a dict of kwargs from the upcaster "
            f"{forgetful.__qualname__}, got: NoneType. Return the kwargs of the newer version, "
            "also where they were changed in place."
        )

    def test_what_it_raises_is_the_receivers_failure(self, got, sent) -> None:
        """It is code of the site, and fails as the receiver would."""
        registered.send(sender=None)

        with pytest.raises(KeyError, match="name"):
            execute(older(sent[0], 1), name="shop.greet")

    @pytest.mark.parametrize(
        ("upcasters", "message"),
        [
            (
                split_name,
                "cannot use upcasters: expected a list of functions, got: function. "
                "Write upcasters=[from_1_to_2, from_2_to_3].",
            ),
            (
                [split_name, "add_title"],
                "cannot use upcasters[1]: expected a plain function of the older kwargs, a dict, "
                "got: str. Let it return the kwargs of version 3.",
            ),
        ],
    )
    def test_what_is_none(self, upcasters, message) -> None:
        """Refused where it is written."""

        def receive(**kwargs) -> None: ...

        with pytest.raises(TypeError) as caught:
            connect(Signal(), receive, upcasters=upcasters)
        assert str(caught.value) == message
