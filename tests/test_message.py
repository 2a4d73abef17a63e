"""What is published: its size is checked where the signal is sent."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from django.dispatch import Signal

from async_signals import MessageTooLargeError, SerializationError
from async_signals.conf import get_settings
from async_signals.wire.envelope import pack
from async_signals.wire.message import Message

sized = Signal()


def receive(**kwargs) -> None: ...


@pytest.fixture
def signal(connect, sent, db):
    connect(sized, receive, name="shop.sized", on_commit=False)
    return sized


def test_what_is_not_written_yet_has_all_that_a_message_has(signal, sent, monkeypatch) -> None:
    """It is made without the help of its base class, once for each event."""
    made = []
    monkeypatch.setattr(
        "async_signals.receivers.dispatch", lambda message, *_: made.append(message)
    )
    signal.send(sender=None)

    [message] = made
    for field in dataclasses.fields(Message):
        getattr(message, field.name)
    assert message.size == 1


class TestSize:
    def test_what_is_too_large_is_refused_at_send(self, signal, sent) -> None:
        """In the sender's stack, with the largest argument, the sizes and the cure."""
        with pytest.raises(MessageTooLargeError) as caught:
            signal.send(sender=None, rows="x" * 300_000, number=1)
        exc = caught.value
        assert str(exc) == (
            f"cannot send 'rows' to shop.sized: expected a message of at most 262144 bytes, got: "
            f"one of {exc.size}, 300002 of them in this argument. Send less of it, a key instead "
            "of what it stands for, or leave it out with @async_receiver(..., exclude=['rows']); "
            "or raise ASYNC_SIGNALS['MAX_MESSAGE_SIZE']."
        )
        assert (exc.receiver, exc.path, exc.path_size, exc.limit) == (
            "shop.sized",
            "rows",
            300_002,
            262_144,
        )
        assert sent == []

    def test_the_limit_itself_is_allowed(self, signal, sent) -> None:
        """The bytes are those that travel: one more is too many."""
        signal.send(sender=None, text="")
        room = get_settings().max_message_size - len(pack(sent))

        signal.send(sender=None, text="x" * room)
        with pytest.raises(MessageTooLargeError):
            signal.send(sender=None, text="x" * (room + 1))

        assert len(pack(sent[1:])) == 262_144

    def test_bytes_not_characters(self, signal, settings) -> None:
        """Text beyond ASCII counts as it is written."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}

        with pytest.raises(MessageTooLargeError, match="'text'"):
            signal.send(sender=None, text="\N{SNOWMAN}" * 200)

    def test_the_largest_is_the_largest_on_the_wire(self, signal, settings) -> None:
        """Weighed as it is written: without spaces between the items of a list."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 1000}

        with pytest.raises(MessageTooLargeError) as caught:
            signal.send(sender=None, numbers=[1] * 400, text="x" * 1000)
        assert (caught.value.path, caught.value.path_size) == ("text", 1002)

    def test_it_is_a_serialization_error(self, signal, settings) -> None:
        """Who catches what cannot travel catches this too; it survives a pickle."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 10}

        with pytest.raises(SerializationError) as caught:
            signal.send(sender="shop", number=1)
        assert caught.value.path == "sender"
        copy = pickle.loads(pickle.dumps(caught.value))
        assert str(copy) == str(caught.value)
        assert vars(copy) == vars(caught.value)
