"""``track_changes``: what a save has changed, without a query."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import pickle
import uuid

import django
import pytest
from django.apps.registry import Apps
from django.db import models, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed, post_init, post_save, pre_init, pre_save
from django.dispatch import Signal
from django.utils import timezone
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

import async_signals
from async_signals import MessageTooLargeError, RegistrationError, SerializationError
from tests.conftest import require
from tests.testapp.fields import Money
from tests.testapp.models import Article, ArticleProxy, Line, LongArticle, Note, Product, Tag

pytestmark = pytest.mark.django_db(databases=["default", "other"])

told = []
told_of_titles = []


def on_save(sender, instance, changes, **kwargs) -> None:
    told.append(changes)


def on_title(sender, instance, changes, **kwargs) -> None:
    told_of_titles.append(changes)


@pytest.fixture
def changes(connect, inline):
    """What ``on_save`` is told of articles."""
    connect(
        post_save,
        on_save,
        sender=[Article, ArticleProxy, LongArticle],
        track_changes=True,
        on_commit=False,
    )
    told.clear()
    yield told
    stop_tracking(Article, ArticleProxy, LongArticle)


def stop_tracking(*models) -> None:
    """No other test may find that these models are tracked."""
    from async_signals.sending.changes import _VALUES

    for model in models:
        pre_init.disconnect(sender=model, dispatch_uid=_VALUES)
        post_init.disconnect(sender=model, dispatch_uid=_VALUES)
        pre_save.disconnect(sender=model, dispatch_uid=_VALUES)


@pytest.fixture
def article(changes):
    """A row that was loaded; nothing is told of it yet."""
    pk = Article.objects.create(title="old", price="1.50").pk
    changes.clear()
    return Article.objects.get(pk=pk)


class TestChanges:
    def test_old_and_new(self, article, changes) -> None:
        """Only what is different, by the names of attributes."""
        article.title = "new"
        article.price = decimal.Decimal(2)
        article.save()

        assert changes == [
            {"title": ("old", "new"), "price": (decimal.Decimal("1.50"), decimal.Decimal(2))}
        ]

    def test_no_query_more(self, article, changes, django_assert_num_queries) -> None:
        """One save is one query, as ever; the receiver's own fetch is the worker's."""
        from async_signals import testing

        article.title = "new"
        with testing.capture() as sent, django_assert_num_queries(1):
            article.save()

        assert sent[0].kwargs["changes"] == {"title": {"$": "tuple", "v": ["old", "new"]}}

    def test_nothing_changed(self, article, changes) -> None:
        """A save of the same is a delivery, with no changes."""
        article.save()

        assert changes == [{}]

    def test_the_next_save_starts_where_the_last_ended(self, article, changes) -> None:
        """Each change is told once."""
        for title in ("second", "third"):
            article.title = title
            article.save()

        assert changes == [{"title": ("old", "second")}, {"title": ("second", "third")}]

    def test_a_new_row(self, changes) -> None:
        """Nothing was there before: no changes, and the next save has some."""
        article = Article.objects.create(title="old")
        article.title = "new"
        article.save()

        assert changes == [{}, {"title": ("old", "new")}]

    def test_what_was_there_is_not_known(self, article, changes) -> None:
        """An instance that was not loaded, and overwrites a row: None, not a guess."""
        Article(pk=article.pk, title="other").save()

        assert changes == [None]

    def test_another_database(self, article, changes) -> None:
        """What was loaded from one database says nothing of the row in another."""
        Article(pk=article.pk, title="another").save(using="other")
        changes.clear()
        article.title = "new"
        article.save(using="other")

        assert changes == [None]

    def test_another_row(self, article, changes) -> None:
        """What was loaded from one row says nothing of another that is overwritten."""
        other = Article.objects.create(title="other")
        changes.clear()
        article.pk = other.pk
        article.save()
        article.title = "new"
        article.save(update_fields=["title"])

        assert changes == [None, {"title": ("old", "new")}]

    def test_another_row_of_a_child(self, changes) -> None:
        """Nor of another row of its parent."""
        child = LongArticle.objects.get(pk=LongArticle.objects.create(title="old").pk)
        Article.objects.create(pk=child.pk + 1, title="other")
        changes.clear()
        child.id += 1
        child.article_ptr_id += 1
        child.save()

        assert changes[-1] in (None, {})

    def test_another_row_of_a_key_of_two_columns(self, connect, inline) -> None:
        """One of them is enough."""
        connect(post_save, on_save, sender=Line, track_changes=True, on_commit=False)
        try:
            for position in (1, 2):
                Line.objects.create(order_number=1, position=position, text=str(position))
            line = Line.objects.get(pk=(1, 1))
            told.clear()
            line.position = 2
            line.save()
        finally:
            stop_tracking(Line)

        assert told == [None]

    def test_the_same_row_by_a_text(self, article, changes) -> None:
        """A key from a form is the same key."""
        article.pk = str(article.pk)
        article.title = "new"
        article.save()

        assert changes == [{"title": ("old", "new")}]

    @pytest.mark.parametrize("model", [Article, Note], ids=["its own key", "a key from the start"])
    def test_what_was_stored_in_bulk(self, model, connect, inline) -> None:
        """No signal tells of it: what was in the row then is not known."""
        name = "title" if model is Article else "text"
        connect(post_save, on_save, sender=model, track_changes=True, on_commit=False)
        try:
            one = model(**{name: "never"})
            setattr(one, name, "real")
            model._base_manager.bulk_create([one])
            told.clear()
            one.save()
            setattr(one, name, "new")
            one.save()
        finally:
            stop_tracking(model)

        assert told == [None, {name: ("real", "new")}]

    def test_an_instance_that_is_made_while_one_is_loaded(self, article, changes) -> None:
        """It is not taken for a row; of the one that is loaded nothing is known then."""

        def make_another(**kwargs) -> None:
            if kwargs["args"]:
                Article(title="another")

        pre_init.connect(make_another, sender=Article)
        try:
            loaded = Article.objects.get(pk=article.pk)
        finally:
            pre_init.disconnect(make_another, sender=Article)
        loaded.title = "new"
        loaded.save()

        assert changes == [None]

    @pytest.mark.parametrize(
        ("number", "told"),
        [("1.504", {}), (1.504, {}), ("1.506", {"price": ("1.50", "1.51")})],
    )
    def test_a_number_with_more_places_than_its_column(
        self, number, told, article, changes
    ) -> None:
        """It is compared, and told, as it was stored."""
        article.price = decimal.Decimal(number) if isinstance(number, str) else number
        article.save()
        expected = {name: tuple(map(decimal.Decimal, pair)) for name, pair in told.items()}
        [pair] = [*changes[0].values()] or [(None, article.price)]

        assert changes == [expected]
        if told:
            assert pair[1] == Article.objects.get(pk=article.pk).price

    @pytest.mark.django_db(databases="__all__")
    @pytest.mark.parametrize("using", ["default", "postgresql", "mariadb"])
    @pytest.mark.parametrize("number", ["1.505", "1.515", "-1.505", "-1.515", "7"])
    def test_each_database_rounds_as_it_does(self, using, number, changes) -> None:
        """What is told is what the row has."""
        if using != "default":
            require(using)
        pk = Article.objects.using(using).create(title="old", price="0.5").pk
        article = Article.objects.using(using).get(pk=pk)
        changes.clear()
        article.price = number
        article.save()

        [told] = changes
        assert told["price"][1] == Article.objects.using(using).get(pk=pk).price

    @pytest.mark.filterwarnings("ignore:DateTimeField Article.published received a naive datetime")
    @pytest.mark.parametrize(
        "moment", ["2026-01-02", dt.date(2026, 1, 2), dt.datetime(2026, 1, 2)], ids=str
    )
    def test_a_moment_without_a_zone(self, moment, article, changes) -> None:
        """It is one in the zone in which Django stores it."""
        stored = timezone.make_aware(dt.datetime(2026, 1, 2)).astimezone(dt.UTC)
        Article.objects.filter(pk=article.pk).update(published=stored)
        article = Article.objects.get(pk=article.pk)
        article.published = moment
        article.save()
        article.published = "2026-01-03"
        article.save()

        assert changes == [{}, {"published": (stored, stored + dt.timedelta(1))}]
        assert {str(each.tzinfo) for each in changes[1]["published"]} == {"UTC"}

    def test_json_has_no_tuples(self, connect, inline) -> None:
        """What JSON turns into a list or a text has not changed by that."""
        connect(post_save, on_save, sender=Product, track_changes=True, on_commit=False)
        try:
            product = Product.objects.get(pk=Product.objects.create(data={"1": [1, 2]}).pk)
            told.clear()
            product.data = {1: (1, 2)}
            product.save()
            product.data = {1: (1, 3)}
            product.save()
        finally:
            stop_tracking(Product)

        assert told == [{}, {"data": ({"1": [1, 2]}, {"1": [1, 3]})}]

    @pytest.mark.parametrize(
        ("old", "new"), [(1, True), (False, 0), (1, 1.0), ({"on": [1]}, {"on": [True]})], ids=str
    )
    def test_json_tells_numbers_from_truth(self, old, new, connect, inline) -> None:
        """What Python takes for equal is another value of JSON; the order of keys is none."""
        connect(post_save, on_save, sender=Product, track_changes=True, on_commit=False)
        try:
            product = Product.objects.create(data={"a": old, "b": 1})
            product = Product.objects.get(pk=product.pk)
            told.clear()
            product.data = {"b": 1, "a": old}
            product.save()
            product.data = {"b": 1, "a": new}
            product.save()
        finally:
            stop_tracking(Product)

        assert repr(told) == repr([{}, {"data": ({"b": 1, "a": old}, {"b": 1, "a": new})}])

    def test_a_child_whose_parents_key_is_deferred(self, changes) -> None:
        """The key of the row itself is enough."""
        pk = LongArticle.objects.create(title="old").pk
        changes.clear()
        child = LongArticle.objects.only("title").get(pk=pk)
        child.title = "new"
        child.save(update_fields=["title"])

        assert changes == [{"title": ("old", "new")}]

    def test_a_text_that_stands_for_a_number(self, article, changes) -> None:
        """What a form assigns is compared as the database would give it back."""
        article.price = "1.5"
        article.save()
        article.price = "3"
        article.save()

        assert changes == [{}, {"price": (decimal.Decimal("1.50"), decimal.Decimal(3))}]


class Name(str):
    """A text of the site's own."""

    __slots__ = ()


class Moment(dt.datetime):
    """As libraries of dates have them."""


class Day(dt.date):
    """Likewise."""


class Span(dt.timedelta):
    """Likewise."""


class Digest(bytes):
    """Bytes of the site's own."""

    __slots__ = ()


class Level(models.TextChoices):
    HIGH = "high"


class TestPlain:
    """What the row gives back is told, not what was assigned: no save fails because of that."""

    @pytest.mark.parametrize(
        ("model", "name", "value"),
        [
            (Article, "title", Name("new")),
            (Article, "title", Level.HIGH),
            (Article, "title", mark_safe("new")),
            (Article, "title", gettext_lazy("new")),
            (Article, "published", Moment(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
            (Article, "published", Day(2026, 1, 2)),
            (Product, "lasts", Span(1, 2, 3)),
            (Product, "digest", bytearray(b"new")),
            (Product, "digest", Digest(b"new")),
            (Product, "digest", memoryview(b"new")),
        ],
        ids=lambda value: type(value).__name__,
    )
    @pytest.mark.filterwarnings("ignore:DateTimeField Article.published received a naive datetime")
    def test_types_that_no_row_keeps(self, model, name, value, connect, inline) -> None:
        """Neither a subclass of a plain type nor what stands for one."""
        connect(post_save, on_save, sender=model, track_changes=True, on_commit=False)
        try:
            row = model.objects.get(pk=model.objects.create().pk)
            told.clear()
            setattr(row, name, value)
            row.save()
            row.save()
        finally:
            stop_tracking(model)

        stored = getattr(model.objects.get(pk=row.pk), name)
        assert [list(each) for each in told] == [[name], []]
        assert told[0][name][1] == stored
        assert type(told[0][name][1]) is type(stored)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (models.DateField(), Day(2026, 1, 2)),
            (models.DateField(), Moment(2026, 1, 2)),
            (models.TimeField(), type("Hour", (dt.time,), {})(1, 2, 3, 4, fold=1)),
            (models.UUIDField(), type("Id", (uuid.UUID,), {})(int=5)),
            (models.IntegerField(), type("Number", (int,), {})(5)),
            (models.FloatField(), type("Weight", (float,), {})(1.5)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_other_fields(self, field, value) -> None:
        """The same value, of the type that the field's rows have."""
        from async_signals.sending.stored_values import as_stored

        stored = as_stored(field, value, "default")
        assert stored == (value.date() if isinstance(value, Moment) else value)
        assert type(stored).__module__ in ("builtins", "datetime", "uuid")

    @pytest.mark.parametrize(
        ("kind", "field"), [("datetime", "DateTimeField"), ("date", "DateField")]
    )
    def test_while_the_clock_is_stopped(self, kind, field, monkeypatch) -> None:
        """Libraries for tests put a class of their own in the place of Python's."""
        from async_signals.sending.stored_values import as_stored

        real = getattr(dt, kind)
        stopped = type("Stopped", (real,), {})
        value = stopped(2026, 1, 2, **({"tzinfo": dt.UTC} if kind == "datetime" else {}))
        monkeypatch.setattr(dt, kind, stopped)

        assert type(as_stored(getattr(models, field)(), value, "default")) is real

    def test_a_field_that_makes_its_own(self) -> None:
        """What a field makes of what is in the row stays what it is."""
        from async_signals.sending.stored_values import as_stored

        class NameField(models.CharField):
            def from_db_value(self, value, expression, connection):
                return Name(value)

        assert type(as_stored(NameField(), Name("x"), "default")) is Name


class TestFiles:
    @pytest.fixture
    def product(self, connect, inline):
        connect(post_save, on_save, sender=Product, track_changes=True, on_commit=False)
        yield Product.objects.get(pk=Product.objects.create(manual="a.txt").pk)
        stop_tracking(Product)

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_one_that_is_taken_away(self, nothing, product) -> None:
        """The name of no file is an empty one, as in the row."""
        told.clear()
        product.manual = nothing
        product.save()

        assert told == [{"manual": ("a.txt", "")}]
        assert Product.objects.get().manual.name == ""

    def test_none_where_there_was_none(self, product) -> None:
        """Another word for the same."""
        product.manual = ""
        product.save()
        told.clear()
        product.manual = None
        product.save()
        product = Product.objects.get()
        product.manual = None
        product.save()

        assert told == [{}, {}]

    def test_null(self) -> None:
        """A row that was made past Django has changed when Django has saved it."""
        from async_signals.sending.stored_values import as_stored

        assert as_stored(models.FileField(null=True), None, "default") == ""
        assert as_stored(models.CharField(null=True), None, "default") is None


class TestPartial:
    def test_update_fields(self, article, changes) -> None:
        """What was not saved has not changed, until it is saved."""
        article.title, article.body = "new", "text"
        article.save(update_fields=["title"])
        article.save()

        assert changes == [{"title": ("old", "new")}, {"body": ("", "text")}]

    def test_deferred_fields(self, article, changes, django_assert_num_queries) -> None:
        """They are not fetched to be compared; what was not loaded is not told of."""
        article = Article.objects.only("title").get(pk=article.pk)
        article.title, article.body = "new", "text"
        with django_assert_num_queries(1):
            from async_signals import testing

            with testing.capture() as sent:
                article.save()

        assert list(sent[0].kwargs["changes"]) == ["title"]

    def test_expressions(self, article, changes) -> None:
        """``F()``: Django brings the value back from 6.0 on; before, nobody knows it here."""
        article.price = F("price") + 1
        article.title = "new"
        article.save()

        [one] = changes
        if django.VERSION >= (6, 0):
            assert one.pop("price") == (decimal.Decimal("1.50"), decimal.Decimal("2.50"))
        assert one == {"title": ("old", "new")}

    def test_values_that_change_in_place(self) -> None:
        """They are copied when they are remembered; what cannot be copied is left out."""
        import threading

        from async_signals.sending.changes import _values_of

        article = Article(title=["a"], body=threading.Lock(), price=memoryview(b"x"))
        found = _values_of(article, Article._meta.concrete_fields)
        values = {field.attname: value for field, value in found}
        article.title.append("b")

        assert (values["title"], values["price"]) == (["a"], b"x")
        assert "body" not in values

    def test_named_fields(self, connect, inline) -> None:
        """A list tells of these fields only, and of saves that change none all the same."""
        connect(post_save, on_title, sender=Tag, track_changes=["name"], on_commit=False)
        told_of_titles.clear()
        try:
            tag = Tag.objects.create(name="old")
            tag.name = "new"
            tag.save()
        finally:
            stop_tracking(Tag)

        assert told_of_titles == [{}, {"name": ("old", "new")}]

    def test_many_to_many_is_not_saved(self, article, changes) -> None:
        """Relations have a signal of their own."""
        article.tags.add(Tag.objects.create(name="x"))

        assert changes == []


class TestModels:
    @pytest.mark.parametrize("model", [ArticleProxy, LongArticle])
    def test_proxy_and_child(self, model, changes) -> None:
        """Each sender for itself; the fields of the parents count."""
        pk = model.objects.create(title="old").pk
        changes.clear()
        one = model.objects.get(pk=pk)
        one.title = "new"
        one.save()

        assert changes == [{"title": ("old", "new")}]

    def test_a_lazy_sender(self, connect, inline) -> None:
        """``"app.Model"`` is tracked from the moment that it is found."""
        connect(post_save, on_save, sender="testapp.Note", track_changes=True, on_commit=False)
        told.clear()
        try:
            note = Note.objects.create(text="old")
            note.text = "new"
            note.save()
        finally:
            stop_tracking(Note)
            post_save.disconnect(on_save, sender=Note)

        assert told == [{}, {"text": ("old", "new")}]

    def test_other_models_are_left_alone(self, changes) -> None:
        """No model without such a receiver has anything connected."""
        assert post_init.has_listeners(Article)
        assert not post_init.has_listeners(Tag)
        assert vars(Tag(name="x")._state).keys() <= {"adding", "db", "fields_cache"}


class TestNested:
    @pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
    def test_a_receiver_that_saves_again(self, first, article, changes, connect) -> None:
        """Connected before or after ours: each change is told once, and none is lost."""

        def save_again(instance, **kwargs) -> None:
            if not instance.body:
                instance.body = "added"
                instance.save()

        if first:
            post_save.disconnect(on_save, sender=Article)
        post_save.connect(save_again, sender=Article)
        if first:
            connect(
                post_save,
                on_save,
                sender=[Article, ArticleProxy, LongArticle],
                track_changes=True,
                on_commit=False,
            )
        try:
            article.title = "new"
            article.save()
        finally:
            post_save.disconnect(save_again, sender=Article)

        together = {}
        for one in changes:
            assert not together.keys() & one.keys()
            together |= one
        assert len(changes) == 2
        assert together == {"title": ("old", "new"), "body": ("", "added")}

    def test_a_copy_has_its_own(self, article, changes) -> None:
        """What is saved of a copy, or of a pickle, is not told of the original."""
        for other in (copy.copy(article), pickle.loads(pickle.dumps(article))):
            other.title = "new"
            other.save()
        article.title = "newer"
        article.save()

        assert changes == [{"title": ("old", "new")}] * 2 + [{"title": ("old", "newer")}]

    def test_what_is_not_sent_is_told_with_the_next(self, article, changes) -> None:
        """A muted save has told nobody."""
        from async_signals import muted

        with muted():
            article.title = "quiet"
            article.save()
        article.price = "3"
        article.save()

        assert changes == [
            {"title": ("old", "quiet"), "price": (decimal.Decimal("1.50"), decimal.Decimal(3))}
        ]

    def test_a_muted_new_row(self, changes) -> None:
        """Of a new row there is nothing to tell; what follows is a change of it."""
        from async_signals import muted

        with muted():
            article = Article.objects.create(title="old")
        article.title = "new"
        article.save()

        assert changes == [{"title": ("old", "new")}]

    @pytest.mark.parametrize("error", [MessageTooLargeError, SerializationError])
    def test_what_was_refused_at_send(self, error, article, changes, settings) -> None:
        """Neither has a save whose delivery could not be made."""
        article.title = "new"
        with pytest.raises(error):
            if error is MessageTooLargeError:
                settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 10}
                article.save()
            else:
                post_save.send(Article, instance=article, unsendable=object())
        settings.ASYNC_SIGNALS = {}
        article.save()

        assert changes == [{"title": ("old", "new")}]


class TestWhen:
    def test_it_is_asked_with_the_changes(self, connect, inline) -> None:
        """``when=`` can keep saves away that do not matter."""
        got = []

        def renamed(sender, changes, **kwargs) -> None:
            got.append(changes)

        connect(
            post_save,
            renamed,
            sender=Tag,
            track_changes=True,
            on_commit=False,
            when=lambda sender, changes, **kwargs: changes,
        )
        try:
            tag = Tag.objects.create(name="old")
            tag.save()
            tag.name = "new"
            tag.save()
        finally:
            stop_tracking(Tag)

        assert got == [{"name": ("old", "new")}]

    def test_what_it_held_back_is_told_with_the_next(self, connect, inline) -> None:
        """A receiver that waits for one field hears then of all that has changed."""
        got = []

        def priced(sender, changes, **kwargs) -> None:
            got.append(changes)

        connect(
            post_save,
            priced,
            sender=Article,
            track_changes=True,
            on_commit=False,
            when=lambda sender, changes, **kwargs: "body" in (changes or ()),
        )
        try:
            article = Article.objects.create(title="old")
            article.title = "new"
            article.save()
            article.body = "text"
            article.save()
        finally:
            stop_tracking(Article)

        assert got == [{"title": ("old", "new"), "body": ("", "text")}]


class Vector:
    """Compares item by item, as arrays do."""

    def __init__(self, *items) -> None:
        self.items = items

    def __eq__(self, other):
        return Vector(*(a == b for a, b in zip(self.items, other.items, strict=True)))

    __hash__ = None

    def __bool__(self) -> bool:
        raise ValueError("the truth of an array is ambiguous")


class VectorField(models.TextField):
    def to_python(self, value):
        return value

    def value_to_string(self, obj):
        return repr(self.value_from_object(obj).items)


class TestValues:
    def test_what_compares_item_by_item(self, monkeypatch) -> None:
        """Its field's text tells whether it is another; without one, it counts as changed."""
        from async_signals.codec.fields import equal

        class Shape(models.Model):
            corners = VectorField()

            class Meta:
                app_label = "testapp"
                apps = Apps()

        field = Shape._meta.get_field("corners")
        assert equal(field, Vector(1, 2), Vector(1, 2))
        assert not equal(field, Vector(1, 2), Vector(1, 3))
        monkeypatch.delattr(VectorField, "value_to_string")
        assert not equal(field, Vector(1), Vector(1))

    def test_values_that_only_their_field_knows(self, connect, inline) -> None:
        """They arrive through the field, as those of an instance do."""
        got = []

        def receive(changes, **kwargs) -> None:
            got.append(changes)

        connect(post_save, receive, sender=Product, track_changes=True, on_commit=False)
        try:
            product = Product.objects.create(price=Money(1))
            product = Product.objects.get()
            product.price = Money(2)
            product.save(update_fields=["price"])
        finally:
            stop_tracking(Product)

        assert got == [{}, {"price": (Money(1), Money(2))}]
        assert type(got[1]) is dict

    def test_a_value_that_nobody_can_write(self, connect, sent) -> None:
        """Refused with the way to it: the field, and which of the two."""

        def receive(changes, **kwargs) -> None: ...

        connect(post_save, receive, sender=Product, track_changes=True, on_commit=False)
        try:
            Product.objects.create(forgotten=Money(1))
            product = Product.objects.get()
            product.forgotten = Money(2)
            with pytest.raises(SerializationError) as caught:
                product.save()
        finally:
            stop_tracking(Product)

        assert caught.value.path == "changes['forgotten'][0]"


class TestLimits:
    """What cannot be seen from here, as the documentation says."""

    def test_queryset_update(self, article, changes) -> None:
        """It sends no signal, and leaves the instance as it was."""
        Article.objects.filter(pk=article.pk).update(title="behind")
        article.title = "new"
        article.save()

        assert changes == [{"title": ("old", "new")}]

    def test_refresh_from_db(self, article, changes) -> None:
        """It tells nobody: what was refreshed is told of with the next save."""
        Article.objects.filter(pk=article.pk).update(title="behind")
        article.refresh_from_db()
        article.save()

        assert changes == [{"title": ("old", "behind")}]

    def test_rollback(self, article, changes) -> None:
        """Django gives the instance no old values back, and neither do we."""
        article.title = "new"
        with pytest.raises(RuntimeError), transaction.atomic():
            article.save()
            raise RuntimeError
        article.save()

        assert changes == [{"title": ("old", "new")}, {}]


class TestTransaction:
    @pytest.mark.django_db(transaction=True, databases=["default", "other"])
    def test_each_save_of_a_transaction_has_its_own(self, connect, inline) -> None:
        """They are sent with the commit, as they were at their saves."""
        got = []

        def committed(sender, instance, changes, **kwargs) -> None:
            got.append((instance.name, changes))

        connect(post_save, committed, sender=Tag, track_changes=True)
        try:
            with transaction.atomic():
                tag = Tag.objects.create(name="one")
                tag.name = "two"
                tag.save()
                assert got == []
        finally:
            stop_tracking(Tag)

        assert got == [("two", {}), ("two", {"name": ("one", "two")})]


class TestRefused:
    def refused(self, connect, signal, **options) -> str:
        def receive(**kwargs) -> None: ...

        with pytest.raises(RegistrationError) as caught:
            connect(signal, receive, name=f"shop.tracked.{id(receive)}", **options)
        return str(caught.value).replace(f".{id(receive)}", "")

    def test_every_model(self, connect) -> None:
        """No sender would mean all models of the site."""
        assert self.refused(connect, post_save, track_changes=True) == (
            "cannot track changes for shop.tracked: expected one or more models as sender, got: "
            "None, which means all. Name them, sender=[Article, 'shop.Order']."
        )

    @pytest.mark.parametrize("signal", [m2m_changed, Signal()])
    def test_other_signals(self, signal, connect) -> None:
        """Only ``post_save`` says what was saved."""
        assert self.refused(connect, signal, sender=Tag, track_changes=["name"]) == (
            "cannot track changes for shop.tracked: expected post_save, which says what was "
            "saved, got: another signal. Connect a receiver of its own to the others."
        )

    def test_an_unknown_field(self, connect) -> None:
        """A field that the model does not have is a mistake."""
        assert self.refused(connect, post_save, sender=Tag, track_changes=["nmae"]) == (
            "cannot track changes for shop.tracked: expected fields of testapp.Tag that are "
            "columns, got: 'nmae'. Name fields as the model does; m2m_changed tells of "
            "many-to-many ones."
        )

    @pytest.mark.parametrize("name", ["tags", "longarticle", "titel"])
    @pytest.mark.parametrize("sender", [Article, "testapp.Article"])
    def test_what_is_no_column(self, name, sender, connect) -> None:
        """Relations that no save saves, and names that are wrong, also of a lazy sender."""
        assert f"got: {name!r}. Name fields as the model does" in self.refused(
            connect, post_save, sender=sender, track_changes=["title", name]
        )

    def test_a_lazy_sender_that_is_not_loaded_yet(self) -> None:
        """Refused as soon as there is such a model."""
        registry = Apps()  # Left with it: the fixture would disconnect from the site's own.

        def receive(**kwargs) -> None: ...

        async_signals.connect(
            post_save,
            receive,
            sender="testapp.Later",
            apps=registry,
            name="shop.later",
            track_changes=["name", "nmae"],
        )
        with pytest.raises(RegistrationError) as caught:
            type(
                "Later",
                (models.Model,),
                {
                    "__module__": __name__,
                    "name": models.CharField(max_length=9),
                    "Meta": type("Meta", (), {"app_label": "testapp", "apps": registry}),
                },
            )
        assert str(caught.value) == (
            "cannot track changes for shop.later: expected fields of testapp.Later that are "
            "columns, got: 'nmae'. Name fields as the model does; m2m_changed tells of "
            "many-to-many ones."
        )

    def test_a_text(self, connect) -> None:
        """One name is a list of one."""

        def receive(**kwargs) -> None: ...

        with pytest.raises(TypeError) as caught:
            connect(post_save, receive, sender=Tag, track_changes="name")
        assert str(caught.value) == (
            "cannot use track_changes='name': expected a list of names, got: str. "
            "Write track_changes=['name']."
        )
