"""What is held in many places is walked in each, and refused before that takes for ever."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict

import pytest

from async_signals import MessageTooLargeError, codec
from async_signals.codec.table import Encoder
from tests.testapp.models import Product

from .known import Pair, Point


def doubled(hold):
    """Return what holds two of what holds two ... of something, thirty times."""
    held = hold(1, 1)
    for _ in range(30):
        held = hold(held, held)
    return held


class TestShared:
    @pytest.mark.parametrize(
        "hold",
        [
            lambda a, b: [a, b],
            lambda a, b: (a, b),
            lambda a, b: {"a": a, "b": b},
            lambda a, b: {1: a, 2: b},
            lambda a, b: OrderedDict(a=a, b=b),
            lambda a, b: frozenset([(a, 1), (b, 2)]),
            Point,
            Pair,
            lambda a, b: Product(data=[a, b]),
        ],
        ids=["list", "tuple", "dict", "pairs", "ordered", "set", "dataclass", "named", "instance"],
    )
    def test_structures_that_grow_without_end(self, hold, settings, monkeypatch) -> None:
        """Thirty lists are a thousand million values to JSON: few of them are looked at."""
        limit, looked_at, encode = 20_000, [], Encoder.encode

        def count(encoder, value):
            looked_at.append(1)
            return encode(encoder, value)

        monkeypatch.setattr(Encoder, "encode", count)
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": limit}
        with pytest.raises(MessageTooLargeError):
            codec.encode({"value": doubled(hold)}, receiver="r")

        assert len(looked_at) <= 2 * limit  # A key and a value, where keys are no plain texts.

    def test_one_large_value_in_many_places(self) -> None:
        """Plain values count as well."""
        large = [1] * 10_000
        with pytest.raises(MessageTooLargeError) as caught:
            codec.encode({"small": 1, "rows": [large] * 100_000}, receiver="shop.receive")
        assert str(caught.value) == (
            "cannot send 'rows' to shop.receive: expected a message of at most 262144 bytes, got: "
            "one of at least 270000, at least 270000 of them in this argument. Send less of it, a "
            "key instead of what it stands for, or leave it out with @async_receiver(..., "
            "exclude=['rows']); or raise ASYNC_SIGNALS['MAX_MESSAGE_SIZE']."
        )
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert not caught.value.is_whole

    def test_what_fits_is_not_refused(self, settings) -> None:
        """Each value counts for no more than the bytes that it takes."""
        shared = [[], [[]], {"": 1}, (1, 2), [{}] * 3, {1: 2}, Pair(1, 2), [1.5, "", None]]
        value = {"rows": [shared] * 100, "ones": [1] * 5_000, "empty": [[]] * 5_000}
        encoded = codec.encode({"value": value}, receiver="r")
        size = len(json.dumps(encoded, separators=(",", ":")))
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": size}

        assert codec.encode({"value": value}, receiver="r") == encoded
