"""Instances of models of every kind, by reference, as a snapshot, or both."""

from __future__ import annotations

import contextlib
import datetime as dt
import json

import pytest
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage
from django.db import connections, models
from django.db.models.expressions import DatabaseDefault
from django.db.models.signals import post_save
from django.utils.functional import SimpleLazyObject

from async_signals import DecodeError, MissingInstanceError, SerializationError, codec
from async_signals.codec.changes import Changes
from tests.conftest import require
from tests.testapp.fields import Money, MoneyField
from tests.testapp.models import (
    Article,
    ArticleProxy,
    City,
    CityView,
    Coin,
    Country,
    Entry,
    Letter,
    Line,
    LongArticle,
    Member,
    Note,
    Playlist,
    Product,
    Purse,
    Quota,
    Remark,
)

from .known import same, through_json

pytestmark = pytest.mark.django_db(databases="__all__")


class Name(str):
    """A text of the site's own."""

    __slots__ = ()


MODES = ["reference", "snapshot", "both"]


def fields_of(instance) -> dict:
    """Return the loaded fields of *instance*; names for files."""
    return {
        field.attname: str(value) if isinstance(field, models.FileField) else value
        for field in instance._meta.concrete_fields
        if (value := instance.__dict__.get(field.attname, field)) is not field
    }


def assert_same(got, sent) -> None:
    assert type(got) is type(sent)
    assert same(fields_of(got), fields_of(sent))
    assert (got._state.adding, got._state.db) == (sent._state.adding, sent._state.db)


MAKERS = {
    "article": lambda rows: rows(Article).create(title="t"),
    "proxy": lambda rows: rows(ArticleProxy).create(title="p"),
    "multi-table": lambda rows: rows(LongArticle).create(title="c", pages=3),
    "uuid key, hidden": lambda rows: rows(Note).create(text="n", hidden=True),
    "generic": lambda rows: rows(Remark).create(content_type_id=1, object_id="7"),
    "text key": lambda rows: rows(Country).create(code="de", number=49),
    "to_field": lambda rows: rows(City).create(
        country=rows(Country).create(code="fr", number=33), name="Paris"
    ),
    "composite": lambda rows: rows(Line).create(order_number=1, position=2, text="x"),
    "user": lambda rows: rows(Member).create(email="a@b.c", last_login=dt.datetime.now(dt.UTC)),
    "unmanaged": lambda rows: rows(CityView).get(
        pk=rows(City).create(country_id=rows(Country).create(code="it", number=39).number).pk
    ),
    "abstract parent and hard fields": lambda rows: rows(Product).get(
        pk=rows(Product)
        .create(price=Money(5), data={"a": [1, None]}, digest=b"\0", lasts=dt.timedelta(1))
        .pk
    ),
}


class TestEveryKind:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    def test_arrives_as_it_was(self, make, mode, alias, django_assert_num_queries) -> None:
        """On its alias, with the fields that it had; encoding asks no database."""
        sent = make(lambda model: model._base_manager.using(alias))
        with django_assert_num_queries(0, using=alias):
            encoded = codec.encode({"value": sent}, receiver="r", instance=mode)["value"]
        encoded = json.loads(json.dumps(encoded))
        with django_assert_num_queries(int(mode != "snapshot"), using=alias):
            got = codec.decode(encoded)

        assert_same(got, sent)
        if mode == "both":
            assert_same(got.sent, sent)

    def test_both_tells_then_from_now(self) -> None:
        """The row as it is, and ``.sent`` as it was; a snapshot is as it was alone."""
        article = Article.objects.create(title="then")
        encode = {
            mode: codec.encode({"v": article}, receiver="r", instance=mode)["v"] for mode in MODES
        }
        Article.objects.update(title="now")
        got = {mode: codec.decode(data) for mode, data in encode.items()}

        assert [got[mode].title for mode in MODES] == ["now", "then", "now"]
        assert got["both"].sent.title == "then"

    @pytest.mark.parametrize("mode", MODES)
    def test_not_saved_yet(self, mode) -> None:
        """A new one has no row to fetch: its fields travel, whatever the mode."""
        note = Note(text="new")
        got = through_json(note, instance=mode)

        assert_same(got, note)
        assert hasattr(got, "sent") == (mode == "both")

    @pytest.mark.parametrize("mode", MODES)
    def test_deleted(self, mode) -> None:
        """A deleted one arrives with the key that it had, and one whose key is gone without."""
        article = Article.objects.create(title="t")
        key = article.pk
        assert through_json(article, instance=mode, gone=True).pk == key
        article.delete()
        assert_same(through_json(article, instance=mode), article)

    def test_the_row_is_gone(self) -> None:
        """``both`` needs the row as a reference does, unless ``missing`` says otherwise."""
        article = Article.objects.create(title="t")
        plain = codec.encode({"v": article}, receiver="r", instance="both")["v"]
        careful = codec.encode({"v": article}, receiver="r", instance="both", fallback=True)["v"]
        Article.objects.all().delete()

        with pytest.raises(MissingInstanceError):
            codec.decode(plain)
        assert codec.decode(careful).title == codec.decode(careful).sent.title == "t"

    def test_every_instance_of_an_event(self) -> None:
        """The mode holds for instances inside of other values, too."""
        article = Article.objects.create(title="then")
        encoded = codec.encode({"v": [{"a": article}]}, receiver="r", instance="snapshot")["v"]
        Article.objects.update(title="now")

        assert codec.decode(encoded)[0]["a"].title == "then"

    @pytest.mark.parametrize("mode", ["snapshot", "both"])
    def test_deferred_fields(self, mode, django_assert_num_queries) -> None:
        """What was not loaded is not loaded for the message, and stays deferred."""
        Article.objects.create(title="t", body="long")
        article = Article.objects.only("title").get()
        with django_assert_num_queries(0):
            encoded = codec.encode({"v": article}, receiver="r", instance=mode)["v"]
        got = codec.decode(encoded)

        assert_same(got if mode == "snapshot" else got.sent, article)

    def test_cached_relations_stay_behind(self) -> None:
        """A related object is a row of its own: not sent, and fetched where it is asked for."""
        country = Country.objects.create(code="de", number=49)
        city = City.objects.create(country=country, name="Bonn")
        country.code = "changed in memory only"
        encoded = codec.encode({"v": city}, receiver="r", instance="snapshot")["v"]

        assert "changed" not in json.dumps(encoded)
        assert codec.decode(encoded).country.code == "de"

    def test_a_swapped_user_model(self, settings) -> None:
        """``request.user`` of a site's own model, lazy as Django gives it."""
        settings.AUTH_USER_MODEL = "testapp.Member"
        member = get_user_model().objects.create(email="a@b.c")

        assert_same(through_json(SimpleLazyObject(lambda: member)), member)

    @pytest.mark.django_db(transaction=True)
    def test_the_option(self, connect, inline) -> None:
        """``instance=`` on the receiver reaches the values that it gets."""
        seen = []

        def receive(instance, **kwargs):
            seen.append((instance.title, instance.sent.title))

        connect(post_save, receive, sender=Article, instance="both")
        Article.objects.create(title="t")

        assert seen == [("t", "t")]


class TestState:
    def test_no_alias(self) -> None:
        """A stored instance that names no database arrives as one that names none."""
        article = Article.objects.create(title="t")
        article._state.db = None
        for mode in MODES:
            assert_same(through_json(article, instance=mode), article)


NULLS = [models.Value(None, models.JSONField())]
if hasattr(models, "JSONNull"):
    NULLS.append(models.JSONNull())


class TestFields:
    @pytest.mark.parametrize("null", NULLS, ids=lambda null: type(null).__name__)
    def test_the_null_of_json(self, null) -> None:
        """It is not that of SQL, and a new instance that has it arrives with it."""
        got = through_json(Product(data=null))

        assert (type(got.data), got.data) == (type(null), null)
        got.save()
        assert Product.objects.filter(data__isnull=False).count() == 1  # It is not NULL.
        with pytest.raises(SerializationError, match="not an expression that only the database"):
            through_json(Product(net=models.Value(None)))

    def test_a_default_of_the_database(self) -> None:
        """Before it is saved, such a field has no value; it arrives just so."""
        got = through_json(Product())
        assert type(got.stock) is type(Product().stock)
        got.save()
        got.refresh_from_db()

        assert got.stock == 7

    def test_a_default_of_the_database_beside_one_of_python(self) -> None:
        """It is not turned into the other."""
        field = Quota._meta.get_field("amount")
        default = DatabaseDefault(field._db_default_expression, output_field=field)
        got = through_json(Quota(amount=default))
        assert type(got.amount) is DatabaseDefault
        got.save()
        got.refresh_from_db()

        assert got.amount == 5

    def test_an_expression(self) -> None:
        """What only the database can compute is refused by name in a snapshot, with the cure."""
        article = Article.objects.create(title="t", price=1)
        article.price = models.F("price") + 1

        with pytest.raises(SerializationError) as caught:
            codec.encode({"instance": article}, receiver="shop.receive", instance="snapshot")
        assert str(caught.value) == (
            "cannot send 'instance.price' to shop.receive: expected a value, not an expression "
            "that only the database can compute, got: django.db.models.expressions."
            "CombinedExpression. Call instance.refresh_from_db() first, or choose "
            "instance='reference'."
        )
        assert through_json(article).price == 1

    def test_a_field_whose_text_loses_something(self) -> None:
        """A type that only the field knows travels through the field, if nothing is lost."""
        with pytest.raises(
            SerializationError, match=r"got: tests\.testapp\.fields\.Money"
        ) as caught:
            through_json(Product(forgotten=Money(5)))
        assert caught.value.path == "value.forgotten"

    def test_a_short_text_for_many_values(self, monkeypatch) -> None:
        """What a value holds does not count where its field's text travels."""
        many = [Money(1)] * 200_000
        monkeypatch.setattr(MoneyField, "value_to_string", lambda field, obj: "many")
        monkeypatch.setattr(MoneyField, "to_python", lambda field, text: many)
        product = Product(price=many)
        changes = Changes({"price": (many, many)}, [Product._meta.get_field("price")])

        arrived = through_json([product, product, changes], instance="snapshot")
        assert [len(each.price) for each in arrived[:2]] == [200_000] * 2
        assert [len(each) for each in arrived[2]["price"]] == [200_000] * 2

    def test_a_file(self, monkeypatch) -> None:
        """By its name in the storage; one that is not stored yet is refused."""
        monkeypatch.setattr(Product._meta.get_field("manual"), "storage", InMemoryStorage())
        product = Product.objects.create(manual=ContentFile(b"text", "a.txt"))
        for mode in MODES:
            manual = through_json(product.manual, instance=mode)
            assert type(manual) is type(product.manual)
            assert (manual, manual.instance, manual.read()) == (product.manual, product, b"text")
        product.manual = ContentFile(b"more", "b.txt")

        assert through_json(product, instance="reference").manual.name == "manuals/a.txt"
        with pytest.raises(SerializationError, match="expected a file that is stored already"):
            product.manual.name  # noqa: B018  (as Django does before it saves)
            through_json(product, instance="snapshot")

    def test_a_circle_through_a_field(self) -> None:
        """A field that contains its own instance is refused by name."""
        product = Product(data={})
        product.data["self"] = product

        with pytest.raises(SerializationError, match="expected a value without a circle"):
            through_json(product, instance="snapshot")

    def test_arrays(self) -> None:
        """PostgreSQL's arrays, also of values that only their field knows."""
        require("postgresql")
        with connections["postgresql"].schema_editor() as editor:
            editor.create_model(Playlist)
        try:
            sent = Playlist.objects.using("postgresql").create(titles=["a"], prices=[Money(5)])
            for mode in MODES:
                assert_same(through_json(sent, instance=mode), sent)
        finally:
            with connections["postgresql"].schema_editor() as editor:
                editor.delete_model(Playlist)

    @pytest.mark.parametrize(
        "titles", [[Name("a")], ["a", Name("b")], (Name("a"),), [["a", [Name("b")]]]]
    )
    def test_what_an_array_holds_is_not_turned_into_its_base(self, titles) -> None:
        """The text of the field reads back as equal, and as a plain ``str``: refused."""
        with pytest.raises(SerializationError, match=r"Name\. Leave it out"):
            codec.encode({"v": Playlist(titles=titles, prices=[])}, receiver="r")

    def test_a_field_that_the_worker_does_not_have(self) -> None:
        """A snapshot of another release is refused, not cut."""
        encoded = codec.encode({"v": Note(text="x")}, receiver="r")["v"]
        encoded["v"][3][1]["colour"] = "red"

        with pytest.raises(DecodeError, match="expected fields that it has, got: also colour"):
            codec.decode(encoded)

    def test_a_model_with_a_field_sent(self) -> None:
        """``instance="both"`` overwrites no attribute of the model's own."""
        with pytest.raises(SerializationError, match="a model without an attribute 'sent'"):
            through_json(Letter(), instance="both")
        assert_same(through_json(Letter(sent=True), instance="snapshot"), Letter(sent=True))


class TestKeys:
    @pytest.mark.parametrize("mode", MODES)
    def test_one_that_only_its_field_knows(self, mode, alias, django_assert_num_queries) -> None:
        """A key of a type of the site's own, and a foreign key to it, go through their field."""
        coin = Coin.objects.using(alias).create(id=Money(5))
        purse = Purse.objects.using(alias).create(coin_id=Money(5))
        entry = Entry.objects.using(alias).create(amount=Money(7), position=2)
        with django_assert_num_queries(0, using=alias):
            sent = codec.encode({"v": coin, "w": purse, "x": entry}, receiver="r", instance=mode)
        got = codec.decode(json.loads(json.dumps(sent)))

        assert_same(got["v"], coin)
        assert_same(got["w"], purse)
        assert_same(got["x"], entry)

    def test_one_whose_text_loses_something(self) -> None:
        """Refused with the way to it."""
        coin = Coin(id=object())
        coin._state.adding = False

        with pytest.raises(SerializationError) as caught:
            codec.encode({"v": coin}, receiver="r")
        assert (caught.value.path, caught.value.value_type) == ("v.pk", "builtins.object")

    @pytest.mark.parametrize(
        "data",
        [
            ["testapp.coin", "nothing", "5"],
            ["testapp.coin", "id", 5],
            ["testapp.coin", "id", "x"],
            ["testapp.nothing", "id", "5"],
            ["testapp.coin", "id"],
            "x",
        ],
    )
    def test_a_text_of_no_field(self, data) -> None:
        """What no sender wrote is no value."""
        with pytest.raises(DecodeError):
            codec.decode({"$": "by_field", "v": data})

    def test_a_field_that_fails_to_read(self, monkeypatch) -> None:
        """Code of a field's own that raises anything: told by the field's name, with its cause."""

        def fail(self, value):
            raise RuntimeError("secret")

        monkeypatch.setattr(MoneyField, "to_python", fail)
        with pytest.raises(DecodeError) as caught:
            codec.decode({"$": "by_field", "v": ["testapp.coin", "id", "5"]})
        assert str(caught.value) == (
            "cannot decode a value of testapp.Coin.id: expected to_python() to read what "
            "value_to_string() has written, got: one that raises RuntimeError. Run sender and "
            "worker in one release until the messages of the other are consumed."
        )
        assert str(caught.value.__cause__) == "secret"

    @pytest.mark.parametrize(
        "key",
        [
            {"$": "decimal", "v": "1e999999999"},
            {"$": "range", "v": ["0x0", hex(10**30), "0x1"]},
            {"$": "int", "v": hex(2**100)},
            "no number",
        ],
        ids=["huge decimal", "huge range", "huge int", "text"],
    )
    def test_one_that_no_row_has(self, key, alias) -> None:
        """Refused at once: no field is made to unfold it."""
        with pytest.raises((DecodeError, MissingInstanceError)):
            codec.decode({"$": "model", "v": ["testapp.article", alias, key, None]})
        with contextlib.suppress(DecodeError):
            codec.decode({"$": "queryset", "v": ["testapp.article", alias, [key]]})

    def test_an_alias_that_nobody_knows(self) -> None:
        """A database of another site's."""
        with pytest.raises(DecodeError):
            codec.decode({"$": "model", "v": ["testapp.note", "nowhere", "0" * 32, None]})
        with pytest.raises(DecodeError):
            codec.decode({"$": "queryset", "v": ["testapp.note", "nowhere", []]})
