"""What Django carries, inside of everything that holds values: instances, rows, files, lazies."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.utils.functional import LazyObject, Promise, SimpleLazyObject, lazystr
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from tests.testapp.models import Article, Coin, LongArticle, Note, Product, Song

from . import known
from .known import Frozen, Pair, Point, stored, through_json
from .test_instances import assert_same

TITLES = "abcd"


@pytest.fixture(autouse=True)
def songs(db) -> None:
    for title in TITLES:
        Song.objects.create(title=title)


def songs_of(titles: list[str]) -> QuerySet:
    """Return the songs of these titles in an order of their own."""
    return Song.shouted.filter(title__in=titles).order_by("-title")


instances = st.one_of(
    st.builds(Article, title=known.texts, body=known.texts),
    st.builds(LongArticle, title=known.texts, pages=st.integers()),
    st.builds(Note, text=known.texts),
    st.builds(Product, data=known.values, stock=st.integers()).map(stored),
    st.builds(lambda number: Coin(pk=Coin._meta.pk.to_python(number)), st.integers()).map(stored),
)
leaves = st.one_of(
    known.scalars,
    instances,
    st.sampled_from([Article, Note, Product, Model, QuerySet, AnonymousUser, Point]),
    st.lists(st.sampled_from(TITLES), unique=True).map(songs_of),
    st.builds(lambda name: Product(manual=name).manual, known.texts),
    st.builds(lambda user: SimpleLazyObject(lambda: user), instances | st.builds(AnonymousUser)),
    known.texts.map(lazystr),
    st.just(gettext_lazy("Monday")),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(known.texts, inner),
        st.dictionaries(known.keys, inner),
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner=inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


def assert_arrived(got, sent) -> None:
    """*got* is what *sent* was, or stands for, all the way down."""
    if issubclass(type(sent), LazyObject):
        sent = sent.__reduce__()[1][0]
    elif issubclass(type(sent), Promise):
        sent = str(sent)
    assert type(got) is type(sent)
    if isinstance(sent, Model):
        assert_same(got, sent)
    elif isinstance(sent, QuerySet):
        assert [song.title for song in got] == [song.title for song in sent]
    elif isinstance(sent, FieldFile):
        assert (got.name, got.field) == (sent.name, sent.field)
        assert_same(got.instance, sent.instance)
    elif isinstance(sent, (list, tuple)):
        assert len(got) == len(sent)
        for one, other in zip(got, sent, strict=True):
            assert_arrived(one, other)
    elif isinstance(sent, dict):
        assert_arrived([*got.items()], [*sent.items()])
    elif isinstance(sent, (Point, Frozen)):
        for name in sent.__dataclass_fields__:
            if name != "made":
                assert_arrived(getattr(got, name), getattr(sent, name))
    else:
        assert known.same(got, sent)


class TestMixed:
    @given(values)
    def test_any_nesting_arrives_as_it_was(self, value) -> None:
        """Also within dicts, dataclasses and tuples, with their fields as they were."""
        assert_arrived(through_json(value, instance="snapshot"), value)
