"""What the tests of the codec share: values of every type, words, and when two are the same."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import typing
import uuid
import zoneinfo
from collections import OrderedDict

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils.safestring import SafeString
from hypothesis import strategies as st

from async_signals import DecodeError, MissingInstanceError, codec
from tests.testapp.models import Article, Line, Note, Product


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Size(models.TextChoices):
    SMALL = "S", "small"


class Level(enum.IntEnum):
    LOW = 1


class Permission(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Bulk(enum.IntFlag):
    """For the test that makes as many as there may be."""

    ONE = 1


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Refuses to be set, has no ``__dict__``, and remembers being made."""

    made: typing.ClassVar[list[str]] = []
    inner: object

    def __post_init__(self) -> None:
        self.made.append("post_init")


class Pair(typing.NamedTuple):
    left: object
    right: object = 2


def through_json(value, **how):
    """Return *value* as it arrives."""
    encoded = codec.encode({"value": value}, receiver="r", **how)
    return codec.decode(json.loads(json.dumps(encoded))["value"])


def same(left, right) -> bool:
    """Equal, and of equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return {(type(item), item) for item in left} == {(type(item), item) for item in right}
    if isinstance(left, (dt.datetime, dt.time)):
        return (
            left.replace(tzinfo=None) == right.replace(tzinfo=None)
            and left.fold == right.fold
            and type(left.tzinfo) is type(right.tzinfo)
            and str(left.tzinfo) == str(right.tzinfo)
        )
    if isinstance(left, (float, decimal.Decimal)):
        return repr(left) == repr(right)  # Tells -0.0 from 0.0 and 1.0 from 1.00; knows NaN.
    if dataclasses.is_dataclass(left) and not isinstance(left, type):
        names = [field.name for field in dataclasses.fields(left)]
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    return left == right


#: Halves of characters side by side, which JSON readers join, more often than by chance.
halves = st.text(st.sampled_from("\ud83d\ude00\ud800\udfff\U0001f600a$"), max_size=6)
texts = st.text(st.characters(codec=None)) | halves
offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.timezones(),
    st.just(dt.UTC),
    offsets.map(dt.timezone),
    st.builds(dt.timezone, offsets, st.text(max_size=5) | halves),
)
paths = st.builds(
    lambda kind, parts: kind(*parts),
    st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path]),
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5) | halves),
).filter(lambda path: type(path)(str(path)).parts == path.parts)  # Others are refused.
ranges = st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
members = st.sampled_from(
    [Colour.RED, Size.SMALL, Level.LOW, *map(Permission, range(8)), *map(Bits, range(9))]
)
importables = st.sampled_from([Colour, dt.datetime, json.dumps, uuid.uuid4, Point])

#: Values that hold no others and have a hash that tells them apart.
keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    texts,
    st.just("$"),
    st.binary(),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    texts.map(SafeString),
    paths,
    ranges,
    members,
    importables,
)
scalars = st.one_of(
    keys,
    st.floats(),
    st.decimals(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.times(timezones=zones),
    st.builds(AnonymousUser),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
        st.dictionaries(texts, inner).map(OrderedDict),
        st.fixed_dictionaries({"$": inner, "v": inner}),
        st.sets(keys),
        st.frozensets(keys),
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner=inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=20,
)

#: What a message may say where it means harm, or where a release meant something else.
WORDS = [
    "model", "path", "testapp.article", "testapp.note", "testapp.keyed", "auth.user", "default",
    "other", "nowhere", "os:system", "os.path:join", "builtins:object", "builtins:dict", "this:c",
    "tests.codec.known:Point", "tests.codec.known:Frozen", "tests.codec.known:Pair", "left", "x",
    "tests.codec.planted:Trap", "tests.codec.planted:trap", "importable", "resolve_expression",
    "tests.codec.planted:Expression", "tests.codec.asleep.lazy", "tests.codec.known:Colour",
    "tests.codec.known:Permission", "RED", "title", "id", "inner", "",
    "django.conf:settings.DATABASES", "datetime:datetime", "time:struct_time", "0x10", "-0x1",
    "2026-01-02", "2026-01-02T03:04:05.000006", "03:04:05", "1e999999999", "NaN", "sNaN", "$", "v",
    "Europe/Berlin", "Europe", "../../etc/passwd", "/etc/passwd", "posix/..", "PosixPath",
    "WindowsPath", "0" * 32, "field", "text", "pk", "__class__", "__dict__", 0, 1, -1, 10**30,
    "\ud83d\ude00", "by_field", "objects", "json_null", "anonymous", "str",
    "deliveries", "kwargs", "sent_at", "receiver", "signal", "sender", "event",
]  # fmt: skip


def messages() -> list:
    """Return the JSON of one value of each type, as a sender writes it."""
    return [
        codec.encode({"value": value}, receiver="r", instance=mode)["value"]
        for mode in ("reference", "snapshot", "both")
        for value in (
            [10**60, float("inf"), decimal.Decimal("1.5"), uuid.UUID(int=7), b"x", SafeString("x")],
            [range(3), pathlib.PurePosixPath("a"), (1,), {1}, frozenset({1}), {1: 2}, {"a": 1}],
            [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(1), dt.date(2026, 1, 1)],
            [
                dt.timedelta(1),
                OrderedDict(a=1),
                Colour.RED,
                Permission(3),
                Bits(9),
                AnonymousUser(),
            ],
            [
                Point(1),
                Frozen(inner=1),
                Pair(1),
                Colour,
                Article,
                json.dumps,
                Article.objects.none(),
            ],
            [
                Article(title="new"),
                Article(pk=1),
                Note(text="x").id,
                Line(order_number=1, position=1),
            ],
            [stored(Article(pk=1)), stored(Note()), stored(Line(order_number=1, position=1))],
            [stored(Product(pk=1, manual="x")).manual],
        )
    ]


def stored(instance):
    """Return *instance* as one that has a row."""
    instance._state.adding = False
    return instance


def warm_up() -> None:
    """Have Django and the standard library load what they load at the first use of a type."""
    through_json([dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))])
    for label in ("testapp.article", "testapp.note", "auth.user"):
        with contextlib.suppress(DecodeError, MissingInstanceError):
            codec.decode({"$": "model", "v": [label, "default", 1, None]})
            codec.decode({"$": "model", "v": [label, None, None, [True, {"id": "x"}]]})
