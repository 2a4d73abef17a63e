"""Whatever a message says: a documented error or a value, and nothing imported or called."""

from __future__ import annotations

import contextlib
import json
import sys
import time

import pytest
from django.dispatch import Signal
from hypothesis import example, given
from hypothesis import strategies as st

from async_signals import DecodeError, EnvelopeError, MissingInstanceError, codec, connect
from async_signals.codec import table
from async_signals.executor import execute
from async_signals.wire.envelope import unpack
from async_signals.wire.signing import sign

from .known import WORDS, messages, warm_up

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(WORDS)
)
#: JSON with tags, known and unknown, around anything.
nonsense = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.sampled_from(WORDS).map(str), inner, max_size=4),
        st.fixed_dictionaries({"$": st.sampled_from([*table._by_tag, "?"]), "v": inner}),
        st.fixed_dictionaries({"$": inner}),
    ),
    max_leaves=15,
)


@st.composite
def bent(draw):
    """What a sender wrote, but for a few places."""

    def bend(data):
        if draw(st.integers(0, 9)) == 9:
            return draw(nonsense)
        if isinstance(data, list):
            return [bend(item) for item in data]
        if isinstance(data, dict):
            return {key: bend(item) for key, item in data.items()}
        return data

    return bend(draw(st.sampled_from(messages())))


@pytest.fixture(autouse=True)
def warm(db):
    warm_up()


@contextlib.contextmanager
def harmless():
    """Allow the documented errors only, two seconds of the processor's time, and no import."""
    modules, begun = {*sys.modules}, time.thread_time()
    with contextlib.suppress(DecodeError, EnvelopeError, MissingInstanceError):
        yield
    assert {*sys.modules} - modules == set()
    assert time.thread_time() - begun < 2


def signed(body: str) -> str:
    return sign(body)


class TestFuzz:
    @given(nonsense | bent())
    @example({"$": "queryset", "v": ["testapp.note", "default", ["no uuid"]]})
    @example(
        {
            "$": "model",
            "v": ["testapp.article", "default", {"$": "decimal", "v": "1e999999999"}, None],
        }
    )
    @example(
        {
            "$": "fieldfile",
            "v": [{"$": "model", "v": ["testapp.product", None, None, [True, {}]]}, "no", ""],
        }
    )
    @example({"$": "datetime", "v": ["2026-01-01", "Europe", 0]})
    @example({"$": "datetime", "v": ["2026-01-01", "../../etc/passwd", 0]})
    @example({"$": "datetime", "v": ["2026-01-01", "/etc/passwd", 0]})
    @example({"$": "datetime", "v": ["2026-01-01", "x" * 10_000, 0]})
    @example({"$": "timedelta", "v": [10**30, 0, 0]})
    @example({"$": "range", "v": ["0x0", hex(10**30), "0x1"]})
    @example({"$": "range", "v": ["0x0", "0x1", "0x0"]})
    @example({"$": "int", "v": "0x" + "f" * 1_000_000})
    @example({"$": "decimal", "v": "1e" + "9" * 10_000})
    @example({"$": "namedtuple", "v": ["time:struct_time", {}]})
    @example({"$": "dataclass", "v": ["builtins:dict", {}]})
    @example({"$": "path", "v": ["WindowsPath", "x"]})
    def test_values(self, data) -> None:
        """JSON of any shape, with our tags, and messages bent out of shape."""
        with harmless():
            codec.decode(data)

    @given(st.text(st.characters(codec=None)) | st.binary() | nonsense)
    def test_messages(self, wire) -> None:
        """Whatever stands in a queue."""
        with harmless():
            unpack(wire)

    @given(st.text() | nonsense.map(json.dumps) | bent().map(json.dumps))
    @example("[" * 100_000)
    @example('{"v": 1, "receiver": "r", "deliveries": [{}]}')
    @example('{"v": [], "receiver": "r", "deliveries": []}')
    @example('{"v": ' + "9" * 5_000 + "}")
    def test_signed_messages(self, body) -> None:
        """Also where the signature is right, and a sender of ours has lost its senses."""
        with harmless():
            unpack(signed(body))


SIGNAL = Signal()


def nothing(**kwargs) -> None:
    """Takes whatever is left of a message."""


connect(SIGNAL, nothing, name="tests.nothing")

#: Deliveries as no sender wrote them, some with one thing that a receiver cannot be called with.
deliveries = st.fixed_dictionaries(
    {
        "id": st.just("1") | nonsense,
        "event": st.just("0") | nonsense,
        "signal": st.sampled_from([None, "tests.testapp.signals.many", "no.where"]) | nonsense,
        "sent_at": st.just("2026-01-02T03:04:05+00:00") | nonsense,
        "sender": nonsense | bent(),
        "kwargs": st.dictionaries(st.text(max_size=5), nonsense | bent(), max_size=3) | nonsense,
    },
    optional={"payload": st.sampled_from([1, 2]) | nonsense},
)


class TestExecution:
    @given(deliveries)
    @example({**dict.fromkeys(["id", "event"], "1"), "signal": None, "kwargs": [], "sender": 1})
    def test_deliveries(self, delivery) -> None:
        """From the message to the call of a receiver: run, or refused with a documented error."""
        message = {"v": 1, "receiver": "tests.nothing", "deliveries": [delivery]}
        with harmless():
            execute(signed(json.dumps(message)), name="tests.nothing")

    @given(st.lists(st.builds(lambda value: {"number": value}, nonsense | bent()), max_size=3))
    def test_arguments(self, arguments) -> None:
        """Well-formed deliveries with arguments that are none."""
        whole = {"id": "1", "event": "0", "signal": None, "sender": None}
        for kwargs in arguments:
            delivery = {**whole, "sent_at": "2026-01-02T03:04:05+00:00", "kwargs": kwargs}
            message = {"v": 1, "receiver": "tests.nothing", "deliveries": [delivery]}
            with harmless():
                execute(signed(json.dumps(message)), name="tests.nothing")


class TestNothingIsCalled:
    def test_a_lazy_object_stays_asleep(self) -> None:
        """Looking for a class or function evaluates nothing that lies on its way."""
        from . import asleep

        for path in ("tests.codec.asleep:lazy", "tests.codec.asleep:lazy.inner"):
            with pytest.raises(DecodeError):
                codec.decode({"$": "importable", "v": path})
        assert asleep.calls == []

    def test_a_module_that_loads_itself_later(self) -> None:
        """A module that is there in name only is not loaded for a message."""
        import importlib.util

        spec = importlib.util.find_spec("antigravity")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["antigravity"] = module
        try:
            spec.loader.exec_module(module)
            with pytest.raises(DecodeError):
                codec.decode({"$": "importable", "v": "antigravity:geohash"})
        finally:
            del sys.modules["antigravity"]
