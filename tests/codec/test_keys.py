"""Primary keys: a row is found again, or the message is refused, by a documented error."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import time

import pytest
from django.db import OperationalError, ProgrammingError, connections, transaction
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy

from async_signals import DecodeError, MissingInstanceError, SerializationError, codec
from tests.conftest import require
from tests.testapp.models import Bare, Country, Shape, Shelf, Span

from .known import Point, Size, through_json

pytestmark = pytest.mark.django_db(databases="__all__")

HUGE = {"$": "decimal", "v": "1E+999999999"}
ARTICLES = {"$": "queryset", "v": ["testapp.article", None, [1]]}


@pytest.fixture
def tables():
    """Those of PostgreSQL's own keys."""
    require("postgresql")
    with connections["postgresql"].schema_editor() as editor:
        for model in (Shelf, Span, Bare, Shape):
            editor.create_model(model)


def refer(label, key, alias="default") -> list:
    """Return the JSON of an instance and of a queryset with *key*."""
    return [
        {"$": "model", "v": [f"testapp.{label}", alias, key, None]},
        {"$": "queryset", "v": [f"testapp.{label}", alias, [key, key]]},
    ]


#: Keys that are none, and some of a type that another column has.
NONSENSE = [
    *(1, -1, 2**70, 1.5, float("nan"), float("inf"), "x", "\x00", "\ud800", "", True, "9" * 5000),
    *([], [1], [[1]], {}, {"a": 1}, "1e400", "1E+999999999"),
    *({"$": "decimal", "v": text} for text in ("1E+19999", "NaN", "sNaN", "Infinity", "-1.5")),
    *({"$": "float", "v": text} for text in ("nan", "-inf")),
    {"$": "int", "v": "0x" + "f" * 10_000},
    {"$": "bytes", "v": "00"},
    *({"$": "tuple", "v": parts} for parts in ([], [1], [1, 2], [1, []], [1, None], [1, 2, 3])),
    {"$": "set", "v": [1]},
    {"$": "dict", "v": []},
    {"$": "datetime", "v": ["0001-01-01", [1, 0, 0], 0]},
    {"$": "datetime", "v": ["9999-12-31T23:59:59", [-1, 3600, 0], 0]},
    {"$": "date", "v": "2026-01-01"},
    {"$": "time", "v": ["10:00", None, 0]},
    {"$": "timedelta", "v": [999_999_999, 0, 0]},
    {"$": "uuid", "v": "0"},
    {"$": "safe", "v": "x"},
    {"$": "path", "v": ["PosixPath", "x"]},
    {"$": "enum", "v": ["tests.codec.known:Colour", "RED"]},
    {"$": "flag", "v": ["tests.codec.known:Permission", 3]},
    {"$": "by_field", "v": ["testapp.coin", "id", "1E+999999999"]},
    {"$": "by_field", "v": ["testapp.coin", "id", "9" * 4000]},
]


class TestMalformed:
    @pytest.mark.parametrize(
        "label",
        [
            *("article", "note", "country", "line", "coin", "entry"),
            *("numbered", "unique", "coded", "priced", "extended"),
        ],
    )
    def test_whatever_stands_for_a_key(self, label, alias) -> None:
        """On every database: a row, none, or a documented error; never one of the driver's."""
        for key in NONSENSE:
            for data in refer(label, key, alias):
                begun = time.thread_time()
                with (
                    contextlib.suppress(DecodeError, MissingInstanceError),
                    transaction.atomic(using=alias),
                ):
                    codec.decode(data)
                assert time.thread_time() - begun < 1

    @pytest.mark.parametrize("label", ["article", "note", "country", "line", "extended", "coin"])
    @pytest.mark.parametrize(
        "key",
        [
            ARTICLES,
            HUGE,
            [HUGE],
            {"$": "tuple", "v": [1, [HUGE]]},
            {"$": "int", "v": "0x" + "f" * 200_000},
            {"$": "range", "v": ["0x0", "0xffffffffff", "0x1"]},
            [{"$": "range", "v": ["0x0", "0xffffffffff", "0x1"]}],
            {"$": "app_config", "v": "auth"},
            {"$": "by_field", "v": ["testapp.product", "price", "5"]},
            {"$": "dict", "v": [[1, ARTICLES]]},
        ],
        ids=range(10),
    )
    def test_what_no_field_is_handed(self, label, key) -> None:
        """It is refused before a field or a database sees it, in no time."""
        for data in refer(label, key):
            begun = time.thread_time()
            with pytest.raises(DecodeError):
                codec.decode(data)
            assert time.thread_time() - begun < 1

    @pytest.mark.parametrize(
        ("label", "key"),
        [
            ("span", {"$": "app_config", "v": "auth"}),
            ("span", {"$": "importable", "v": "json:dumps"}),
            ("span", 1),
            ("shelf", 1),
            ("shelf", "x"),
            ("shelf", [HUGE]),
            ("shelf", [{"$": "range", "v": ["0x0", "0xffffffffff", "0x1"]}]),
            ("bare", [1]),
            ("bare", {"a": 1}),
        ],
    )
    def test_what_the_database_refuses(self, label, key, tables) -> None:
        """A fault of the message, whichever error the driver has for it."""
        for data in refer(label, key, "postgresql"):
            with pytest.raises(DecodeError), transaction.atomic(using="postgresql"):
                codec.decode(data)

    def test_a_table_that_is_not_there(self) -> None:
        """No fault of the message: the same one is good once the database is migrated."""
        require("postgresql")
        for data in refer("span", {"$": "timedelta", "v": [1, 0, 0]}, "postgresql"):
            with pytest.raises(ProgrammingError), transaction.atomic(using="postgresql"):
                codec.decode(data)
        for data in refer("span", {"$": "timedelta", "v": [1, 0, 0]}):
            with pytest.raises(OperationalError):
                codec.decode(data)

    def test_a_database_that_is_away(self) -> None:
        """Neither: it stays the error that is retried."""

        def away(*args: object) -> None:
            raise OperationalError("server closed the connection unexpectedly")

        for data in refer("article", 1):
            with connections["default"].execute_wrapper(away), pytest.raises(OperationalError):
                codec.decode(data)


class TestWhole:
    def test_keys_of_postgresql(self, tables) -> None:
        """An array, a duration and what a bare field has find their rows."""
        rows = [
            Shelf.objects.using("postgresql").create(key=[1, 2]),
            Span.objects.using("postgresql").create(key=dt.timedelta(1)),
            Bare.objects.using("postgresql").create(key="x"),
        ]
        for row in rows:
            every = type(row).objects.using("postgresql").all()
            assert through_json([row, list(through_json(every))]) == [row, [row]]

    def test_keys_of_json(self, tables) -> None:
        """Objects in any depth, and what Python takes for equal."""
        keys = [{"a": 1}, {"a": True}, [1, {"b": [2]}], {"c": {"d": []}}, 1, True, "x"]
        rows = [Shape.objects.using("postgresql").create(key=key) for key in keys]
        every = Shape.objects.using("postgresql").filter(pk__in=keys)
        expected = sorted(map(repr, keys))

        for row in rows:
            assert repr(through_json(row).key) == repr(row.key)
        assert sorted(repr(row.key) for row in through_json(every)) == expected
        assert sorted(repr(row.key) for row in through_json(through_json(every))) == expected

    @pytest.mark.parametrize("code", [Size.SMALL, "S"])
    def test_members_of_enums(self, code) -> None:
        """A choice that was assigned as key is one."""
        country = Country.objects.create(code=code, number=1)

        assert through_json(country).number == 1

    @pytest.mark.parametrize("how", ["reference", "snapshot", "both"])
    def test_a_lazy_text(self, how) -> None:
        """It is the text that it says, as it is elsewhere."""
        country = Country.objects.create(code=gettext_lazy("no"), number=1)
        held = Country.objects.all()
        held._result_cache = [country]

        arrived = through_json([country, held], instance=how)
        assert (arrived[0].code, arrived[0].number) == ("no", 1)
        assert list(arrived[1]) == [Country.objects.get()]

    def test_a_lazy_value_that_is_no_key(self) -> None:
        """What it stands for has to be one."""
        country = Country(code=lazy(lambda: Point(1), Point)(), number=1)
        country._state.adding = False
        with pytest.raises(SerializationError, match="expected a primary key of plain values"):
            codec.encode({"v": country}, receiver="r")

    def test_a_member_that_is_an_expression(self) -> None:
        """Django would call it."""

        class Sly(enum.StrEnum):
            A = "a"

            def resolve_expression(self, *args: object, **kwargs: object) -> None:
                raise AssertionError

        country = Country(code=Sly.A, number=1)
        country._state.adding = False
        with pytest.raises(SerializationError, match="expected a primary key of plain values"):
            codec.encode({"v": country}, receiver="r")

    def test_what_would_be_refused_later(self) -> None:
        """A key that no worker could read is refused at send, with the cure."""
        country = Country(code=Point(1), number=1)
        country._state.adding = False
        with pytest.raises(SerializationError) as caught:
            codec.encode({"country": country}, receiver="shop.receive")
        assert str(caught.value) == (
            "cannot send 'country.pk' to shop.receive: expected a primary key of plain values, or "
            "one whose field's value_to_string() and to_python() lead back to it, got: "
            "tests.codec.known.Point. Leave it out with @async_receiver(..., exclude=['country']), "
            "or send plain values, such as a primary key, in its place."
        )

    def test_a_missing_row(self) -> None:
        """Still the error that tells of it."""
        for label, key in (("article", 10**9), ("note", {"$": "uuid", "v": "0" * 32})):
            with pytest.raises(MissingInstanceError):
                codec.decode(refer(label, key)[0])
