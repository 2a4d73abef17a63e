"""Every type of the table arrives as it was sent, type and value; the rest is refused by name."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import pathlib
import typing
import zoneinfo
from collections import OrderedDict

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.html import format_html
from django.utils.translation import gettext_lazy, override
from hypothesis import given

from async_signals import DecodeError, SerializationError, codec

from . import known
from .known import Bits, Bulk, Frozen, Pair, Permission, Point, same, through_json

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class TestEveryType:
    @given(known.values)
    def test_any_nesting_arrives_as_it_was(self, value) -> None:
        """Same value, same types, at any depth; ``nox -s fidelity`` tries 10,000 of them."""
        assert same(through_json(value), value)

    @pytest.mark.parametrize(
        "value",
        [
            pathlib.PurePosixPath("a/b"),
            pathlib.PureWindowsPath("c:\\x"),
            pathlib.Path("x"),
            range(10, -3, -2),
            range(10**40),
            Point(1, [Point(2)]),
            Frozen(inner={"a": 1}),
            Pair(1, (2,)),
            OrderedDict([("b", 1), ("a", 2)]),
            Permission.READ | Permission.RUN,
            Permission(0),
            Bits(9),
            dt.time(1, 2, 3, 4, tzinfo=BERLIN, fold=1),
            dt.datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=BERLIN, fold=1),
            dt.datetime.min,
            dt.timedelta.max,
            dt.timedelta.min,
        ],
        ids=repr,
    )
    def test_one_of_each(self, value) -> None:
        """The types that other bridges leave out, by one example each."""
        assert same(through_json(value), value)

    def test_the_name_of_a_fixed_offset(self) -> None:
        """A fixed offset keeps its name, and UTC is the very UTC."""
        zone = dt.timezone(dt.timedelta(hours=1), "CET")

        assert through_json(dt.datetime(2026, 1, 1, tzinfo=zone)).tzname() == "CET"
        assert through_json(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)).tzinfo is dt.UTC

    def test_a_safe_string_stays_safe(self) -> None:
        """A template does not escape it twice, and a plain one does not become safe."""
        assert same(through_json(format_html("<b>{}</b>", "&")), format_html("<b>{}</b>", "&"))
        assert same(through_json("<b>"), "<b>")

    def test_a_lazy_text_is_the_text_of_the_sender(self) -> None:
        """Evaluated at send, in the sender's language, to a ``str``."""
        with override("de"):
            encoded = codec.encode({"value": gettext_lazy("Monday")}, receiver="r")
        assert codec.decode(encoded["value"]) == "Montag"

    def test_a_lazy_value_that_is_no_text(self) -> None:
        """What a lazy call gives travels as what it is."""
        assert same(through_json(lazy(lambda: [1], list)()), [1])

    def test_nobody(self) -> None:
        """The user of a request that is not logged in, lazy or not."""
        for user in (AnonymousUser(), SimpleLazyObject(AnonymousUser)):
            assert type(through_json(user)) is AnonymousUser

    def test_shared_values_arrive_equal(self) -> None:
        """What is held twice arrives twice."""
        shared = [1]

        assert through_json([shared, shared]) == [[1], [1]]


class Base:
    def __init__(self) -> None:
        raise AssertionError("called")


@dataclasses.dataclass
class Loaded(Base):
    """Everything that a dataclass can run when it is made; none of it may run here."""

    x: int
    left_out: int = dataclasses.field(default=3, init=False)

    def __new__(cls, *args, **kwargs):
        if kwargs.pop("quietly", False):
            return object.__new__(cls)
        raise AssertionError("called")

    def __post_init__(self) -> None:
        raise AssertionError("called")

    def __setattr__(self, name, value) -> None:
        raise AssertionError("called")

    @property
    def shown(self) -> int:
        return self.x

    @shown.setter
    def shown(self, value) -> None:
        raise AssertionError("called")


class TestDataclasses:
    def test_nothing_of_the_class_is_called(self) -> None:
        """No ``__new__``, ``__init__``, ``__post_init__``, ``__setattr__`` or property."""
        loaded = Loaded.__new__(Loaded, quietly=True)
        loaded.__dict__.update(x=1, shown=2)
        got = through_json(loaded)

        assert (type(got), vars(got), got.left_out) == (Loaded, {"x": 1, "shown": 2}, 3)

    def test_frozen_ones_with_slots(self) -> None:
        """What refuses to be set is set all the same, past its methods."""
        sent = Frozen(inner=1)
        Frozen.made.clear()

        assert through_json(sent) == sent
        assert Frozen.made == []

    def test_attributes_beside_the_fields(self) -> None:
        """What was put into one arrives, too."""
        point = Point(1)
        point.extra = "more"

        assert through_json(point).extra == "more"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (
                dataclasses.make_dataclass("Local", ["x"])(1),
                "what can be imported as",
            ),
            (Point.__new__(Point), "fields all have a value"),
        ],
        ids=["not importable", "unset field"],
    )
    def test_refused(self, value, reason) -> None:
        """What would arrive as something else does not leave."""
        with pytest.raises(SerializationError, match=reason):
            through_json(value)

    def test_one_that_extends_a_builtin(self) -> None:
        """Its builtin half has no fields, and would be lost."""
        with pytest.raises(SerializationError, match="extends no builtin type"):
            through_json(Listed(1))

    def test_the_way_to_what_cannot_travel(self) -> None:
        """The error names attributes as it does keys and indices."""
        with pytest.raises(SerializationError) as caught:
            through_json([Point(1, Pair(object()))])
        assert caught.value.path == "value[0].y.left"


@dataclasses.dataclass
class Listed(list):
    x: int


class Word(str):
    __slots__ = ()


class Moment(dt.datetime):
    pass


class Many(collections.UserDict):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)


class Tagged(Pair):
    """A named tuple that can hold more than its items."""


Held = typing.TypeVar("Held")


@dataclasses.dataclass
class Crate(typing.Generic[Held]):
    held: Held


class TestMarks:
    def test_of_a_generic_dataclass(self) -> None:
        """``Crate[int](1)`` is one that typing has marked; the mark stays behind."""
        assert through_json(Crate[int](1)) == Crate(1)
        assert "__orig_class__" not in vars(through_json(Crate[int](1)))

    def test_attributes_of_an_ordered_dict(self) -> None:
        """Refused: nothing else would tell that they are gone."""
        marked = OrderedDict(a=1)
        marked.source = "form"
        with pytest.raises(SerializationError, match="an ordered dict without other attributes"):
            through_json(marked)

    def test_flags_are_not_made_for_ever(self) -> None:
        """Their class keeps each combination; a message makes no more than ten thousand."""
        path = "tests.codec.known:Bulk"
        refused = 0
        for value in range(1 << 20, (1 << 20) + 11_000):
            try:
                codec.decode({"$": "flag", "v": [path, value]})
            except DecodeError:
                refused += 1
        assert refused > 900
        assert len(Bulk._value2member_map_) <= 10_000


class TestRefused:
    @pytest.mark.parametrize(
        "value",
        [
            Word("x"),
            Moment(2026, 1, 1),
            type("Number", (int,), {})(1),
            type("Float", (float,), {})(1),
            type("Bytes", (bytes,), {})(b"x"),
            type("List", (list,), {})([1]),
            type("Tuple", (tuple,), {})([1]),
            type("Dict", (dict,), {})(a=1),
            type("Set", (set,), {})([1]),
            collections.Counter("aab"),
            collections.defaultdict(list),
            collections.deque([1]),
            Many(),
            bytearray(b"x"),
            memoryview(b"x"),
            1j,
            ...,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_relative_of_a_builtin(self, value) -> None:
        """Refused by the name of its type, never turned into the base."""
        kind = type(value)
        with pytest.raises(SerializationError) as caught:
            through_json(value)
        assert caught.value.value_type == f"{kind.__module__}.{kind.__qualname__}"
        assert "exclude=['value']" in str(caught.value)

    def test_a_class_that_cannot_be_looked_up(self) -> None:
        """Also where a metaclass has taken the hash of its classes away."""
        kind = type("Meta", (type,), {"__hash__": None})("Odd", (), {})

        with pytest.raises(SerializationError, match="not one that raises TypeError"):
            through_json(kind())

    def test_a_zone_of_another_kind(self) -> None:
        """Only zoneinfo and fixed offsets mean the same in every process."""
        with pytest.raises(SerializationError, match="fixed-offset time zone, not Zone"):
            through_json(dt.datetime(2026, 1, 1, tzinfo=Zone()))

    def test_a_named_tuple_with_attributes(self) -> None:
        """What it holds beside its items would be lost."""
        tagged = Tagged(1)
        assert same(through_json(tagged), tagged)
        tagged.more = 1

        with pytest.raises(SerializationError, match="named tuple without other attributes"):
            through_json(tagged)

    @pytest.mark.parametrize("kind", ["list", "dict", "dataclass", "ordered"])
    def test_a_circle(self, kind) -> None:
        """A value that contains itself is refused by its name, whatever it goes through."""
        circle = {"list": [], "dict": {}, "dataclass": Point(1), "ordered": OrderedDict()}[kind]
        if kind == "list":
            circle.append(circle)
        elif kind == "dataclass":
            circle.y = [circle]
        else:
            circle["self"] = circle

        with pytest.raises(SerializationError) as caught:
            through_json(circle)
        assert caught.value.path == "value"
        assert "expected a value without a circle, at most 100 levels deep" in str(caught.value)


class TestWireOnly:
    """What no sender of ours writes, and a message may say all the same."""

    @pytest.mark.parametrize(
        "data",
        [
            ["tests.codec.known:Point", {}],
            ["tests.codec.known:Point", {"y": 1}],
            ["tests.codec.known:Frozen", {}],
            ["tests.codec.known:Pair", {"x": 1}],
        ],
    )
    def test_a_dataclass_without_its_fields(self, data) -> None:
        """A record that lacks what its class promises is not made."""
        with pytest.raises(DecodeError, match=r"content that raises (Lookup|Type)Error"):
            codec.decode({"$": "dataclass", "v": data})

    @pytest.mark.parametrize(
        "name", ["Europe", "Nowhere/Else", "../../etc/passwd", "/etc/passwd", "", "tzdata"]
    )
    @pytest.mark.parametrize("tag", ["datetime", "time"])
    def test_a_zone_that_is_none(self, tag, name, monkeypatch) -> None:
        """Refused before ``zoneinfo`` opens a file or imports a package of that name."""
        asked = []
        monkeypatch.setattr(zoneinfo, "ZoneInfo", asked.append)
        text = "2026-01-01T00:00:00" if tag == "datetime" else "00:00:00"

        with pytest.raises(DecodeError, match="content that raises LookupError"):
            codec.decode({"$": tag, "v": [text, name, 0]})
        assert asked == []


class TestDepth:
    @pytest.mark.parametrize(
        "wrap",
        [lambda x: [x], lambda x: (x,), lambda x: {1: x}, Point, lambda x: Frozen(inner=x), Pair],
        ids=["list", "tuple", "dict", "dataclass", "slots", "namedtuple"],
    )
    def test_what_can_be_sent_can_be_read(self, wrap) -> None:
        """A hundred levels travel, in a worker with a stack of its own; one more is refused."""
        value = 1
        for _ in range(99):
            value = wrap(value)
        assert same(through_json(value), value)

        with pytest.raises(SerializationError, match="at most 100 levels deep"):
            through_json(wrap(wrap(value)))
