"""QuerySets arrive as the rows that they held, or are refused by name."""

from __future__ import annotations

import json

import pytest
from django.db import models
from django.db.models import Count, Value

from async_signals import DecodeError, SerializationError, codec
from tests.testapp.fields import Money
from tests.testapp.models import (
    Article,
    Coin,
    Entry,
    Line,
    LouderQuerySet,
    LoudQuerySet,
    Note,
    Song,
    Tag,
)

from .known import through_json

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def songs():
    """Three of them, titled a, b and c."""
    return [Song.objects.create(title=title) for title in "abc"]


def titles(queryset) -> str:
    return "".join(song.title for song in queryset)


class TestRows:
    @pytest.mark.parametrize("evaluated", [False, True])
    def test_the_order(self, evaluated, songs) -> None:
        """As it was sent, also where the model has another order, or none."""
        sent = Song.objects.order_by("-title")
        if evaluated:
            list(sent)

        assert titles(through_json(sent)) == "cba"

    def test_a_slice(self, songs) -> None:
        """A part of the rows."""
        assert titles(through_json(Song.objects.order_by("title")[1:])) == "bc"

    def test_rows_that_are_held_twice(self) -> None:
        """A join repeats rows: as often as they were there."""
        article = Article.objects.create(title="a")
        tags = [Tag.objects.create(name=name) for name in "xy"]
        article.tags.set(tags)
        sent = Article.objects.filter(tags__in=tags)

        assert list(through_json(sent)) == [article, article]
        assert list(through_json(sent.distinct())) == [article]

    def test_its_alias(self, alias, django_assert_num_queries) -> None:
        """The rows of its own database, and the class knows it; one query brings them."""
        tags = [Tag.objects.using(alias).create(name=name) for name in "ab"]
        encoded = codec.encode({"v": Tag.objects.using(alias).order_by("-name")}, receiver="r")["v"]
        with django_assert_num_queries(1, using=alias):
            got = codec.decode(json.loads(json.dumps(encoded)))
            assert list(got) == tags[::-1]

        assert got.db == alias
        assert {tag._state.db for tag in got} == {alias}
        assert got.filter(name="a").get() == tags[0]

    def test_more_rows_than_one_query_asks_for(self, alias, django_assert_num_queries) -> None:
        """In parts that every database takes: in their order, and as often as they were held."""
        lines = Line.objects.using(alias)
        rows = lines.bulk_create([Line(order_number=n // 7, position=n) for n in range(1_000)])
        sent = lines.order_by("-position")
        encoded = codec.encode({"v": sent}, receiver="r")["v"]
        encoded["v"][2].append(encoded["v"][2][0])
        with django_assert_num_queries(3, using=alias):
            got = list(codec.decode(encoded))

        assert got == [*rows[::-1], rows[-1]]

    def test_a_row_that_is_gone(self, songs) -> None:
        """It is simply not in it."""
        encoded = codec.encode({"v": Song.objects.order_by("title")}, receiver="r")["v"]
        songs[1].delete()

        assert titles(codec.decode(encoded)) == "ac"

    def test_an_instance_that_was_deleted_since(self, songs) -> None:
        """An evaluated queryset still holds it, without a key."""
        sent = Song.objects.order_by("title")
        list(sent)[1].delete()

        assert titles(through_json(sent)) == "ac"

    def test_deferred_fields(self, songs, django_assert_num_queries) -> None:
        """Rows arrive whole, whatever ``only()`` or ``defer()`` had left out."""
        got = through_json(Song.objects.only("id"))
        with django_assert_num_queries(0):
            assert titles(got) == "abc"

    @pytest.mark.parametrize(
        "make",
        [
            lambda: [Note.objects.create(text="x")],
            lambda: [Line.objects.create(order_number=1, position=n) for n in (2, 1)],
            lambda: [Coin.objects.create(id=Money(n)) for n in (6, 5)],
            lambda: [Entry.objects.create(amount=Money(n), position=1) for n in (6, 5)],
        ],
        ids=["uuid", "composite", "of its field alone", "composite of such"],
    )
    @pytest.mark.parametrize("evaluated", [False, True])
    def test_keys_of_every_kind(self, make, evaluated) -> None:
        """As an instance's."""
        rows = make()
        sent = type(rows[0])._base_manager.order_by("-pk")
        if evaluated:
            list(sent)
        assert [row.pk for row in through_json(sent)] == [row.pk for row in rows]

    def test_hidden_rows(self) -> None:
        """A manager that hides rows does not make them deleted."""
        note = Note.objects.create(text="x", hidden=True)

        assert list(through_json(Note._base_manager.all())) == [note]

    def test_the_origin_of_a_deletion(self, songs, django_assert_num_queries) -> None:
        """It is empty, costs no query, and refuses nothing: the deletion was not ours."""
        with django_assert_num_queries(0):
            sent = Song.shouted.annotate(n=Value(1))
            assert list(through_json(sent, gone=True)) == []


class TestClass:
    @pytest.mark.parametrize(
        ("manager", "kind"),
        [
            ("objects", models.QuerySet),
            ("shouted", LoudQuerySet),
            ("yelled", LouderQuerySet),
        ],
    )
    def test_that_of_a_manager(self, manager, kind, songs) -> None:
        """A class that one of the model's managers has arrives as that class."""
        got = through_json(getattr(Song, manager).order_by("-title"))

        assert type(got) is kind
        assert titles(got) == "cba"
        assert type(got.filter(title="a")) is kind
        if kind is not models.QuerySet:
            assert got.loud() == ["C", "B", "A"]

    def test_that_of_no_manager(self) -> None:
        """Refused by its name, not turned into its base."""

        class Mine(LoudQuerySet):
            pass

        with pytest.raises(SerializationError) as caught:
            codec.encode({"songs": Mine(Song)}, receiver="shop.receive")
        assert str(caught.value) == (
            "cannot send 'songs' to shop.receive: expected a QuerySet, or the class of one of its "
            "model's managers, got: tests.codec.test_querysets.TestClass.test_that_of_no_manager."
            "<locals>.Mine. Send what it gives, list(queryset.values(...)), or leave it out with "
            "exclude=['songs']."
        )

    @pytest.mark.parametrize("manager", ["nobody", "__class__", 3, ["objects"]])
    def test_a_manager_that_only_the_message_has(self, manager) -> None:
        """The class is looked up among the managers, and nowhere else."""
        with pytest.raises(DecodeError):
            codec.decode({"$": "queryset", "v": ["testapp.song", "default", [1], manager]})


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda: Song.objects.values("title"), "values() or values_list()"),
            (Song.objects.values, "values() or values_list()"),
            (lambda: Song.objects.values_list("title", flat=True), "values() or values_list()"),
            (lambda: Article.objects.dates("published", "day"), "values() or values_list()"),
            (lambda: Song.objects.annotate(n=Value(3)), "annotate() or extra()"),
            (lambda: Article.objects.annotate(n=Count("tags")), "annotate() or extra()"),
            (lambda: Song.objects.extra(select={"n": "3"}), "annotate() or extra()"),
            (
                lambda: Song.objects.filter(title="a").union(Song.objects.filter(title="b")),
                "union(), intersection() or difference()",
            ),
        ],
    )
    def test_more_than_rows(self, make, what, songs, django_assert_num_queries) -> None:
        """What keys would lose does not leave, by its name and with the cure."""
        with django_assert_num_queries(0), pytest.raises(SerializationError) as caught:
            codec.encode({"songs": make()}, receiver="shop.receive")
        assert str(caught.value) == (
            f"cannot send 'songs' to shop.receive: expected rows of a model, not those of {what}, "
            "got: django.db.models.query.QuerySet. Send what it gives, list(queryset.values(...)), "
            "or leave it out with exclude=['songs']."
        )

    def test_an_annotation_that_is_not_selected(self, songs) -> None:
        """``alias()`` adds nothing to a row."""
        sent = Song.objects.alias(n=Value(1)).filter(n=1).order_by("-title")
        assert titles(through_json(sent)) == "cba"

    def test_the_cure(self, songs) -> None:
        """What the message advises travels."""
        sent = list(Song.objects.order_by("title").values("title"))
        assert through_json(sent) == [{"title": "a"}, {"title": "b"}, {"title": "c"}]
