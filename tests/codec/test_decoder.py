"""Whatever a message says: a documented error or a value, and nothing imported or called."""

from __future__ import annotations

import contextlib
import json
import sys
import time

import django
import pytest
from django.dispatch import Signal
from hypothesis import example, given
from hypothesis import strategies as st

from async_signals import DecodeError, EnvelopeError, MissingInstanceError, codec, connect
from async_signals.codec import table
from async_signals.executor import execute
from async_signals.wire.envelope import unpack
from async_signals.wire.signing import sign

from . import asleep, planted
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
    """Allow the documented errors only, two seconds of the processor's time, no import, no call."""
    modules, begun = {*sys.modules}, time.thread_time()
    planted.calls.clear()
    with contextlib.suppress(DecodeError, EnvelopeError, MissingInstanceError):
        yield
    assert {*sys.modules} - modules == set()
    assert planted.calls == asleep.calls == []
    assert time.thread_time() - begun < 2


def signed(body: str) -> str:
    return sign(body)


def point(**attributes) -> dict:
    """Return the JSON of a dataclass with these attributes."""
    return {"$": "dataclass", "v": ["tests.codec.known:Point", {"x": 1, **attributes}]}


TRAP = {"$": "importable", "v": "tests.codec.planted:trap"}
PLANTED = [
    {"$": "dataclass", "v": ["tests.codec.planted:Trap", {"x": 1}]},
    {"$": "dataclass", "v": ["tests.codec.planted:Trap", {"x": 1, "resolve_expression": TRAP}]},
    {"$": "dataclass", "v": ["tests.codec.planted:Expression", {"x": 1}]},
    {"$": "anonymous", "v": {"resolve_expression": TRAP}},
    {"$": "model", "v": ["testapp.article", "default", None, [True, {"id": 1}]]},
    {"$": "class", "v": ["path", "tests.codec.planted:Expression"]},
    TRAP,
]


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
    @example({"$": "model", "v": ["testapp.article", "default", PLANTED[1], None]})
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
    @pytest.mark.parametrize("label", ["article", "note", "country", "line", "coin", "extended"])
    @pytest.mark.parametrize("payload", PLANTED, ids=range(len(PLANTED)))
    def test_a_key_is_no_expression(self, label, payload) -> None:
        """Neither field nor database is handed what it would call."""
        label = f"testapp.{label}"
        for key in (payload, [payload], {"$": "tuple", "v": [1, payload]}):
            for tag, keys in (("model", [key, None]), ("queryset", [[1, key]])):
                with harmless(), pytest.raises(DecodeError):
                    codec.decode({"$": tag, "v": [label, "default", *keys]})

    @pytest.mark.parametrize("payload", [PLANTED[1], PLANTED[3]], ids=["dataclass", "anonymous"])
    def test_an_attribute_is_no_expression(self, payload) -> None:
        """Neither would it be called when the receiver looks for a row with it."""
        with harmless(), pytest.raises(DecodeError):
            codec.decode(payload)

    def test_a_lazy_object_stays_asleep(self) -> None:
        """Looking for a class or function evaluates nothing that lies on its way."""
        for path in ("tests.codec.asleep:lazy", "tests.codec.asleep:lazy.inner"):
            with pytest.raises(DecodeError):
                codec.decode({"$": "importable", "v": path})
        assert asleep.calls == []

    @pytest.mark.parametrize(
        "payload",
        [
            PLANTED[0],
            point(_meta=point(concrete_fields=[point(name=PLANTED[0])])),
        ],
        ids=["no model", "one in disguise"],
    )
    def test_the_owner_of_a_file_is_a_model(self, payload) -> None:
        """What merely looks like one is not asked for its fields."""
        with harmless(), pytest.raises(DecodeError):
            codec.decode({"$": "fieldfile", "v": [payload, "manual", ""]})

    @pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has tasks since 6.0")
    @pytest.mark.parametrize("path", ["tests.codec.asleep.lazy", "tests.codec.planted.trap"])
    def test_a_task_is_not_asked_what_it_is(self, path) -> None:
        """What a message takes for a task may be lazy, and stays asleep."""
        with harmless(), pytest.raises(DecodeError):
            codec.decode({"$": "task", "v": [path, [0, None, None, None]]})

    @pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has tasks since 6.0")
    def test_an_option_of_a_task_is_not_compared(self) -> None:
        """A value with an equality of its own is not asked for it."""
        import tests.test_builtin_signals  # noqa: F401  (it has the task)

        path = "tests.test_builtin_signals.halve"
        with harmless():
            codec.decode({"$": "task", "v": [path, [PLANTED[0], *[PLANTED[0]] * 3]]})

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
