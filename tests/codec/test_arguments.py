"""What a signal carries arrives as it was sent, or is refused by name."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import json
import uuid
import zoneinfo

import pytest
from django.contrib.auth.models import User
from django.utils.functional import SimpleLazyObject

from async_signals import DecodeError, RegistrationError, SerializationError, codec
from tests.testapp.models import Article, ArticleProxy, LongArticle, Note, Tag

from .known import Colour, Point, Size, through_json


class TestRoundTrip:
    @pytest.mark.parametrize(
        "value",
        [
            10**60,
            -(2**64),
            float("inf"),
            float("-inf"),
            -0.0,
            decimal.Decimal("1.10"),
            decimal.Decimal("NaN"),
            "\ud800",
            "\x00",
            {"__type__": "uuid", "__value__": "x"},
            {"$": "int", "v": "0x1"},
            {1: "int", "1": "str", None: "none"},
            dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            dt.datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=dt.timezone(dt.timedelta(seconds=-1))),
            frozenset({uuid.UUID(int=7)}),
        ],
        ids=repr,
    )
    def test_awkward_values(self, value) -> None:
        """What other bridges bend, collapse or drop."""
        got = through_json(value)

        assert type(got) is type(value)
        assert repr(got) == repr(value)

    def test_an_int_of_any_size(self) -> None:
        """Also one that Python would not print in decimal."""
        assert through_json(10**5000) == 10**5000

    def test_nan(self) -> None:
        """NaN arrives as NaN, and the message stays JSON."""
        assert through_json(float("nan")) != through_json(float("nan"))

    @pytest.mark.parametrize("value", [Colour.RED, Size.SMALL, Colour, json.dumps, uuid.uuid4])
    def test_what_can_be_imported_arrives_as_itself(self, value) -> None:
        """Enums, choices, classes and functions: the very object that the worker has."""
        assert through_json(value) is value


@dataclasses.dataclass
class Registered(Point):
    """Taught to the codec by a test."""


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "path", "kind"),
        [
            (object(), "value", "builtins.object"),
            ([1, {"a": (2, open)}], None, None),
            ([1, {"a": [object()]}], "value[1]['a'][0]", "builtins.object"),
            ({1, 2, Point}, None, None),
            (lambda: None, "value", "builtins.function"),
            (type("Str", (str,), {})("x"), "value", "tests.codec.test_arguments.Str"),
        ],
        ids=["object", "builtin", "nested", "class", "lambda", "str subclass"],
    )
    def test_by_name_and_never_by_value(self, value, path, kind) -> None:
        """The error has the receiver, the way to the value, its type and the cure."""
        if path is None:
            assert through_json(value) == value
            return
        with pytest.raises(SerializationError) as caught:
            codec.encode({"value": value}, receiver="shop.receive")

        error = caught.value
        assert (error.receiver, error.path, error.value_type) == ("shop.receive", path, kind)
        assert str(error).startswith(f"cannot send {path!r} to shop.receive: expected ")
        assert "exclude=['value']" in str(error)

    @pytest.mark.parametrize(
        "key",
        ["tok-abc", "sk_live_4eC3", "deadbeef1234", "ada@x.test", "", "\u0661a", 4711, b"tok",
         ("tok", 1)],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
    def test_a_key_that_may_be_data(self, key, kind) -> None:
        """The way to the value names no key of a dict but plain words: it may be the secret."""
        with pytest.raises(SerializationError) as caught:
            codec.encode({"tokens": kind({key: {"owner": object()}})}, receiver="r")
        assert caught.value.path == "tokens[...]['owner']"
        assert str(caught.value).startswith("cannot send \"tokens[...]['owner']\" to r: expected ")

    def test_the_message_in_full(self) -> None:
        """What a user reads who sends an open file."""
        with open(__file__) as file, pytest.raises(SerializationError) as caught:  # noqa: PTH123
            codec.encode({"pdf": file}, receiver="billing.receivers.email_invoice")
        assert str(caught.value) == (
            "cannot send 'pdf' to billing.receivers.email_invoice: expected a value of a type that "
            "can travel, got: _io.TextIOWrapper. Leave it out with "
            "@async_receiver(..., exclude=['pdf']), or send plain values, such as a primary key, "
            "in its place."
        )

    def test_a_circle(self) -> None:
        """A value that contains itself ends in an error, not in an endless walk."""
        circle: list = []
        circle.append(circle)

        with pytest.raises(SerializationError, match="expected a value without a circle"):
            codec.encode({"value": circle}, receiver="r")

    def test_a_value_that_cannot_be_shown(self) -> None:
        """Nothing of the value is read for the message."""

        class Rude:
            def __repr__(self) -> str:
                raise RuntimeError("asked for my looks")

        with pytest.raises(SerializationError, match="cannot send 'value'"):
            codec.encode({"value": Rude()}, receiver="r")


class TestDecoding:
    @pytest.mark.parametrize(
        "data",
        [
            {"$": "nobody knows", "v": 1},
            {"$": ["list"], "v": 1},
            {"$": "uuid"},
            {"$": "uuid", "v": "short"},
            {"$": "uuid", "v": None},
            {"$": "decimal", "v": "abc"},
            {"$": "datetime", "v": []},
            {"$": "datetime", "v": ["2026-01-01", "No/Where", 0]},
            {"$": "model", "v": ["no.model", None, 1, None]},
            {"$": "model", "v": 3},
            {"$": "class", "v": ["path", "os:system"]},
            {"$": "class", "v": ["path", "not.imported.anywhere:Thing"]},
            {"$": "importable", "v": "os:environ"},
            {"$": "enum", "v": ["builtins:dict", "fromkeys"]},
            {"$": "bytes", "v": "xyz"},
            {"$": "timedelta", "v": [1e999, 0, 0]},
            {"$": "dict", "v": [[[], 1]]},
        ],
        ids=str,
    )
    def test_nonsense_is_a_decode_error(self, data, db) -> None:
        """Whatever stands there: one kind of error, with the cure."""
        with pytest.raises(DecodeError, match="cannot decode a value"):
            codec.decode(data)

    def test_depth(self) -> None:
        """A value nested beyond reason is refused, not a crash."""
        data: list = []
        for _ in range(10_000):
            data = [data]

        with pytest.raises(DecodeError, match="nested beyond reason"):
            codec.decode(data)

    def test_nothing_is_imported(self) -> None:
        """A module that no installed app has imported is not imported for a message."""
        import sys

        assert "this" not in sys.modules
        with pytest.raises(DecodeError):
            codec.decode({"$": "importable", "v": "this:c"})
        assert "this" not in sys.modules


@pytest.mark.django_db(databases="__all__")
class TestModels:
    def test_a_reference_fetches_the_row(self, alias, django_assert_num_queries) -> None:
        """A saved instance travels as its key, is encoded without a query, fetched with one."""
        article = Article.objects.using(alias).create(title="then")
        with django_assert_num_queries(0, using=alias):
            encoded = codec.encode({"value": article}, receiver="r")["value"]
        Article.objects.using(alias).filter(pk=article.pk).update(title="now")
        with django_assert_num_queries(1, using=alias):
            got = codec.decode(encoded)

        assert (got.title, got._state.db, got._state.adding) == ("now", alias, False)
        assert "then" not in json.dumps(encoded)

    def test_a_new_instance_arrives_as_it_was(self) -> None:
        """Not saved yet: its fields travel, also a key that it already has."""
        note = Note(text="new")
        got = through_json(note)

        assert (got.pk, got.text, got._state.adding) == (note.pk, "new", True)

    def test_the_base_manager_finds_what_the_default_one_hides(self) -> None:
        """A manager that hides rows does not make them deleted."""
        note = Note.objects.create(text="hidden", hidden=True)

        assert through_json(note).text == "hidden"

    def test_deferred_fields_stay_deferred(self, django_assert_num_queries) -> None:
        """A snapshot has what the instance had; nothing is loaded for it."""
        Article.objects.create(title="t", body="long")
        article = Article.objects.only("title").get()
        with django_assert_num_queries(0):
            encoded = codec.encode({"value": article}, receiver="r", gone=True)["value"]
            got = codec.decode(encoded)

        assert got.get_deferred_fields() == article.get_deferred_fields()
        assert (got.pk, got.title) == (article.pk, "t")

    def test_children_and_proxies(self) -> None:
        """Multi-table children and proxies come back as what they were."""
        child = LongArticle.objects.create(title="c", pages=3)
        proxy = ArticleProxy.objects.create(title="p")

        assert type(through_json(child)) is LongArticle
        assert through_json(child, gone=True).pages == 3
        assert type(through_json(proxy)) is ArticleProxy

    def test_types_of_fields_survive_a_snapshot(self) -> None:
        """Decimals, datetimes and keys are of their own types again."""
        moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
        article = Article.objects.create(title="t", price=decimal.Decimal("1.50"), published=moment)
        got = through_json(article, gone=True)

        assert (got.price, got.published) == (decimal.Decimal("1.50"), moment)

    def test_a_lazy_user(self) -> None:
        """``request.user`` is what it stands for."""
        user = User.objects.create_user("ann")
        got = through_json(SimpleLazyObject(lambda: user))

        assert type(got) is User
        assert got == user

    def test_a_queryset_is_its_rows(self) -> None:
        """A queryset arrives as the rows that it held, on the alias that it was on."""
        one = Tag.objects.create(name="one")
        Tag.objects.create(name="two")
        got = through_json(Tag.objects.filter(name="one"))

        assert list(got) == [one]
        assert got.db == "default"
        assert list(through_json(Tag.objects.none())) == []


class TestRegister:
    def test_a_type_of_the_users(self) -> None:
        """``codec.register`` teaches a type, exactly that type, both ways."""
        codec.register(Registered, "testapp.point", lambda point: point.x, Registered)

        assert through_json([Registered(3)]) == [Registered(3)]

    @pytest.mark.parametrize(
        ("kind", "tag", "taken"),
        [(Colour, "uuid", "tag 'uuid'"), (int, "testapp.int", "type int")],
    )
    def test_a_clash_is_an_error(self, kind, tag, taken) -> None:
        """Neither a tag nor a type is redefined."""
        with pytest.raises(RegistrationError, match=f"got: a known {taken}"):
            codec.register(kind, tag, str, str)


def test_all_arguments_at_once() -> None:
    """What ``encode()`` returns is decoded as a whole, unless an argument is named like a tag."""
    arguments = {"one": (1,), "two": [b"x"]}
    assert codec.decode(codec.encode(arguments, receiver="r")) == arguments

    with pytest.raises(SerializationError, match="a name other than that of a tag"):
        codec.encode({"$": "uuid"}, receiver="r")
