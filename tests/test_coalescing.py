"""Sends about one object in one transaction: one delivery of each receiver."""

from __future__ import annotations

import contextlib
import logging
from random import Random

import pytest
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.dispatch import Signal
from django.test import TestCase

from async_signals import codec, testing
from async_signals.ids import new_id
from async_signals.sending.outlet import outlet
from tests.testapp.fields import Money
from tests.testapp.models import (
    Article,
    ArticleProxy,
    Country,
    Line,
    LongArticle,
    Note,
    Product,
    Tag,
)

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

signal = Signal()
other_signal = Signal()


class Undo(Exception):
    """Rolls a block back."""


@pytest.fixture
def runs(inline):
    """What the receiver of the test was called with, in its order."""
    return []


@pytest.fixture
def receive(runs):
    def receive(**kwargs) -> None:
        runs.append(kwargs)

    receive.__qualname__ = f"receive_{id(runs)}"  # A test that failed keeps its function alive.
    return receive


def told(runs, *names):
    return [tuple(run.get(name) for name in names) for run in runs]


@contextlib.contextmanager
def undone(alias="default"):
    """A savepoint that is rolled back."""
    with contextlib.suppress(Undo), transaction.atomic(using=alias):
        yield
        raise Undo


class TestSaves:
    def test_three_saves_of_one_row_are_one_delivery(self, alias, connect, receive, runs) -> None:
        """One transaction, one object, one run; another object has its own."""
        connect(post_save, receive, sender=Tag, coalesce=True)
        with transaction.atomic(using=alias):
            first = Tag.objects.using(alias).create(name="a")
            Tag.objects.using(alias).create(name="other")
            first.name = "b"
            first.save()
            Tag.objects.using(alias).get(pk=first.pk).save(update_fields=["name"])

        assert [(run["instance"].name, run["created"]) for run in runs] == [
            ("other", True),
            ("b", True),
        ]

    def test_without_the_option_each_save_is_delivered(self, connect, receive, runs) -> None:
        """It is off by default."""
        connect(post_save, receive, sender=Tag)
        with transaction.atomic():
            Tag.objects.create(name="a").save()

        assert told(runs, "created") == [(True,), (False,)]

    def test_the_last_event_wins_at_its_place(self, connect, sent) -> None:
        """What leaves is the last event's own delivery, where the last event stood."""

        def receive(**kwargs) -> None: ...

        connect(signal, receive, coalesce=True)
        one, two = Tag.objects.create(name="1"), Tag.objects.create(name="2")
        with transaction.atomic():
            for n, tag in enumerate([one, two, one, two, one]):
                signal.send(sender=None, instance=tag, n=n)

        assert [envelope.kwargs["n"] for envelope in sent] == [3, 4]

    def test_update_fields_are_those_of_all_saves(self, connect, receive, runs) -> None:
        """The union; None, which means all, once one save had none."""
        article = Article.objects.create(title="t")
        connect(post_save, receive, sender=Article, coalesce=True)
        with transaction.atomic():
            article.save(update_fields=["title"])
            article.save(update_fields=["body", "price"])
        with transaction.atomic():
            article.save()
            article.save(update_fields=["body"])
        with transaction.atomic():
            article.save(update_fields=["body"])
            article.save()

        assert told(runs, "update_fields", "created") == [
            (frozenset({"title", "body", "price"}), False),
            (None, False),
            (None, False),
        ]

    def test_excluded_arguments_stay_excluded(self, connect, receive, runs) -> None:
        """What is not sent does not come back by merging."""
        connect(post_save, receive, sender=Tag, coalesce=True, exclude=["created"])
        with transaction.atomic():
            Tag.objects.create(name="a").save()

        [run] = runs
        assert "created" not in run

    def test_the_snapshot_is_the_last_ones(self, connect, receive, runs) -> None:
        """A snapshot shows the object as the last event had it."""
        connect(post_save, receive, sender=Tag, coalesce=True, instance="snapshot")
        with transaction.atomic():
            tag = Tag.objects.create(name="a")
            tag.name = "b"
            tag.save()
            Tag.objects.filter(pk=tag.pk).update(name="c")

        assert [(run["instance"].name, run["created"]) for run in runs] == [("b", True)]

    @pytest.mark.parametrize("options", [{"robust": True}, {"robust": False}])
    def test_plain_and_robust(self, connect, receive, runs, options) -> None:
        """Either kind of receiver can have it, and the signal may be given no sender."""
        connect(post_save, receive, coalesce=True, **options)
        with transaction.atomic():
            Tag.objects.create(name="a").save()

        assert told(runs, "created") == [(True,)]


class TestChanges:
    @pytest.fixture
    def article(self, connect, receive):
        connect(post_save, receive, sender=Article, coalesce=True, track_changes=True)
        Article.objects.bulk_create([Article(title="a", body="x")])
        return Article.objects.get()

    def save(self, article, **values):
        for name, value in values.items():
            setattr(article, name, value)
        article.save()

    def test_first_old_and_last_new(self, db, article, runs) -> None:
        """Of each field what it was before the transaction, and what it is after it."""
        with transaction.atomic():
            self.save(article, title="b")
            self.save(article, body="y")
            self.save(Article.objects.get(), title="c")

        assert told(runs, "changes") == [({"title": ("a", "c"), "body": ("x", "y")},)]

    def test_what_came_back_is_no_change(self, article, runs) -> None:
        """A field that has its old value again is left out."""
        with transaction.atomic():
            self.save(article, title="b", body="y")
            self.save(article, title="a")

        assert told(runs, "changes") == [({"body": ("x", "y")},)]

    def test_what_only_looks_as_if_it_came_back(self, connect, receive, runs) -> None:
        """True is not 1 in JSON, neither for the last value nor for the first."""
        connect(post_save, receive, sender=Product, coalesce=True, track_changes=True)
        Product.objects.bulk_create([Product(data=True), Product(data=1.0)])
        with transaction.atomic():
            one, two = Product.objects.order_by("pk")
            self.save(one, data=5)
            self.save(one, data=1)
            self.save(two, data=1)
            self.save(two, data=True)

        assert repr(told(runs, "changes")) == repr(
            [({"data": (True, 1)},), ({"data": (1.0, True)},)]
        )

    def test_values_that_only_their_field_knows(self, connect, receive, runs) -> None:
        """They are one delivery as well, written by the field."""
        connect(post_save, receive, sender=Product, coalesce=True, track_changes=True)
        Product.objects.bulk_create([Product(price=Money(1))])
        with transaction.atomic():
            product = Product.objects.get()
            self.save(product, price=Money(2))
            self.save(product, price=Money(3))

        assert told(runs, "changes") == [({"price": (Money(1), Money(3))},)]

    def test_an_argument_of_that_name(self, connect, receive, runs) -> None:
        """Where no changes are tracked it is the site's own, and the last one stays."""
        connect(post_save, receive, sender=Tag, coalesce=True)
        tag = Tag.objects.create(name="a")
        runs.clear()
        with transaction.atomic():
            for word in ("first", "last"):
                post_save.send(Tag, instance=tag, created=word == "first", changes=[word])

        assert told(runs, "created", "changes") == [(True, ["last"])]

    def test_a_new_row_has_none(self, article, runs) -> None:
        """Created and saved again: it is new, and nothing of it has changed."""
        with transaction.atomic():
            self.save(Article.objects.create(title="n"), title="m")

        assert told(runs, "created", "changes") == [(True, {})]

    def test_what_nobody_knows_stays_unknown(self, article, runs) -> None:
        """One save that overwrites a row that was not loaded: None for all of them."""
        with transaction.atomic():
            self.save(article, title="b")
            self.save(Article(pk=article.pk, title="c"))

        assert told(runs, "changes") == [(None,)]

    def test_an_undone_save_takes_its_changes_along(self, article, runs) -> None:
        """What a savepoint has rolled back is not told."""
        with transaction.atomic():
            self.save(article, title="b")
            with undone():
                self.save(Article.objects.get(), body="undone")
            self.save(Article.objects.get(), price=3)

        [run] = runs
        assert sorted(run["changes"]) == ["price", "title"]

    def test_too_large_together_is_sent_by_itself(self, article, runs, settings, caplog) -> None:
        """Each message may leave, the one for both may not: both leave, and the log says so."""
        settings.ASYNC_SIGNALS = {"MAX_MESSAGE_SIZE": 3000}
        with transaction.atomic():
            self.save(article, title="t" * 190)
            self.save(article, body="b" * 1300)
            self.save(article, title="u" * 190)
        assert len(runs) == 1
        with caplog.at_level(logging.WARNING), transaction.atomic():
            article.body = "c" * 900
            article.save(update_fields=["body"])
            article.title = "d" * 190
            article.save(update_fields=["title"])

        assert len(runs) == 3
        assert "Cannot make one delivery of 2" in caplog.text


class TestOtherSignalsAboutTheRow:
    def test_what_is_sent_before_each_save_hides_none(self, connect, receive, runs) -> None:
        """A receiver of ``pre_save``, too, is still told of all saves."""
        article = Article.objects.create(title="t")
        connect([pre_save, post_save], receive, sender=Article, coalesce=True)
        with transaction.atomic():
            article.save(update_fields=["title"])
            article.save(update_fields=["body"])

        assert told(runs, "signal", "update_fields") == [(post_save, {"title", "body"})]

    def test_saves_say_nothing_about_an_event_of_another_kind(self, connect, receive, runs) -> None:
        """A signal of one's own keeps its own arguments, whatever they are called."""
        connect([post_save, signal], receive, coalesce=True, sender=Tag)
        with transaction.atomic():
            tag = Tag.objects.create(name="a")
            tag.save()
            signal.send(sender=Tag, instance=tag, created="yesterday", update_fields=None)

        assert told(runs, "signal", "created") == [(signal, "yesterday")]


class TestAgainstTheDatabase:
    def play(self, random, depth=0) -> tuple[set[str], set[str]]:
        """Do something to some rows; return those that were saved, and deleted, for good."""
        saved, gone = set(), set()
        for _ in range(random.randrange(1, 5)):
            code = random.choice(["aa", "bb", "cc"])
            number = random.choice([1, 2, random.randrange(10, 10**9)])
            found = Country.objects.filter(code=code).first()
            kind = random.choice(["save", "save", "delete", "block", "undone"])
            if kind == "block" and depth < 3:
                with transaction.atomic():
                    inner = self.play(random, depth + 1)
                saved |= inner[0]
                gone |= inner[1]
            elif kind == "undone" and depth < 3:
                with undone():
                    self.play(random, depth + 1)
            elif kind == "delete" and found is not None:
                found.delete()
                gone.add(code)
            elif kind == "save" and not Country.objects.filter(number=number).exists():
                country = found or Country(code=code)
                country.number = number
                country.save(force_insert=found is None)
                saved.add(code)
        return saved, gone

    @pytest.mark.parametrize("seed", range(25))
    def test_what_is_told_is_what_has_become_of_each_row(self, connect, inline, seed) -> None:
        """Saves, deletions and savepoints at random: the rows before and after are the proof."""
        saves, deletions = [], []

        def receive(instance, created, changes, **kwargs) -> None:
            saves.append((instance.code, created, changes))

        def receive_deletion(instance, **kwargs) -> None:
            deletions.append(instance.code)

        Country.objects.bulk_create([Country(code="aa", number=1), Country(code="bb", number=2)])
        before = dict(Country.objects.values_list("code", "number"))
        connect(
            post_save,
            receive,
            name=f"save.{new_id()}",
            sender=Country,
            coalesce=True,
            track_changes=True,
            instance="snapshot",
        )
        connect(post_delete, receive_deletion, name=f"d.{new_id()}", sender=Country, coalesce=True)
        with transaction.atomic():
            saved, gone = self.play(Random(seed))
        after = dict(Country.objects.values_list("code", "number"))

        assert sorted(code for code, *_ in saves) == sorted(saved)
        assert sorted(deletions) == sorted(gone)
        for code, created, changes in saves:
            if code in gone:
                continue
            if code not in before:
                assert (created, changes) == (True, {})
            elif before[code] == after[code]:
                assert (created, changes) == (False, {})
            else:
                assert (created, changes) == (False, {"number": (before[code], after[code])})


class TestSavepoints:
    def test_an_undone_savepoint_leaves_what_was_sent_before(
        self, alias, connect, receive, runs
    ) -> None:
        """The last of those that live wins: not one that was rolled back."""
        connect(post_save, receive, sender=Tag, coalesce=True, instance="snapshot")
        with transaction.atomic(using=alias):
            tag = Tag(name="a")
            tag.save(using=alias)
            with undone(alias):
                Tag(pk=tag.pk, name="undone").save(using=alias)

        assert [(run["instance"].name, run["created"]) for run in runs] == [("a", True)]

    def test_an_undone_creation_is_not_told(self, alias, connect, receive, runs) -> None:
        """``created`` comes from saves that live."""
        connect(post_save, receive, sender=Country, coalesce=True, instance="snapshot")
        Country(code="aa", number=1).save(using=alias)
        with transaction.atomic(using=alias):
            with undone(alias):
                Country.objects.using(alias).filter(code="aa").delete()
                Country(code="aa", number=2).save(using=alias)
            Country.objects.using(alias).get(code="aa").save()

        assert [(run["instance"].number, run["created"]) for run in runs][1:] == [(1, False)]

    def test_a_rollback_sends_nothing(self, alias, connect, receive, runs) -> None:
        """And leaves nothing for the next transaction."""
        connect(post_save, receive, sender=Tag, coalesce=True)
        tag = Tag(name="a")
        tag.save(using=alias)
        with undone(alias):
            tag.save(update_fields=["name"])
        with transaction.atomic(using=alias):
            tag.save()

        assert told(runs, "created", "update_fields") == [(True, None), (False, None)]

    def test_one_publish(self, alias, connect) -> None:
        """What is left leaves in one batch, with what is not coalesced, in order."""
        batches = []

        def often(**kwargs) -> None: ...

        def once(**kwargs) -> None: ...

        connect(post_save, often, sender=Tag)
        connect(post_save, once, sender=Tag, coalesce=True)
        token = outlet.set(lambda messages: batches.append(list(messages)))
        try:
            with transaction.atomic(using=alias):
                tag = Tag(name="a")
                tag.save(using=alias)
                tag.save()
        finally:
            outlet.reset(token)

        assert [[m.receiver.name.rpartition(".")[2] for m in batch] for batch in batches] == [
            ["often", "often", "once"]
        ]


class TestOneRowFromBirthToDeath:
    """Created, updated and deleted in one transaction."""

    def live(self, alias):
        with transaction.atomic(using=alias):
            tag = Tag(name="a")
            tag.save(using=alias)
            tag.name = "b"
            tag.save()
            self.pk = tag.pk
            tag.delete()

    def test_one_receiver_of_both_signals(self, alias, connect, receive, runs) -> None:
        """It gets the deletion alone, with the row as it was."""
        connect([post_save, post_delete], receive, sender=Tag, coalesce=True)
        self.live(alias)

        [run] = runs
        assert run["signal"] is post_delete
        assert (run["instance"].pk, run["instance"].name) == (self.pk, "b")
        assert "created" not in run

    def test_a_receiver_for_each_signal(self, alias, connect, runs) -> None:
        """Each gets one; the row that was saved is gone, as ``missing=`` says."""

        def saved(instance, created, **kwargs) -> None:
            runs.append(("saved", instance.name, created))

        def deleted(instance, **kwargs) -> None:
            runs.append(("deleted", instance.name))

        connect(post_save, saved, sender=Tag, coalesce=True, missing="snapshot")
        connect(post_delete, deleted, sender=Tag, coalesce=True)
        self.live(alias)

        assert runs == [("saved", "b", True), ("deleted", "b")]

    def test_a_receiver_for_each_signal_that_skips(self, alias, connect, runs) -> None:
        """With ``missing="skip"`` only the deletion is run."""

        def saved(**kwargs) -> None:
            runs.append("saved")

        def deleted(**kwargs) -> None:
            runs.append("deleted")

        connect(post_save, saved, sender=Tag, coalesce=True, missing="skip")
        connect(post_delete, deleted, sender=Tag, coalesce=True)
        self.live(alias)

        assert runs == ["deleted"]

    def test_a_row_that_is_made_again(self, alias, connect, receive, runs) -> None:
        """Of the saves of two rows with one key the later row's count, created for it."""
        connect([post_save, post_delete], receive, sender=Country, coalesce=True)
        with transaction.atomic(using=alias):
            Country(code="aa", number=1).save(using=alias)
            Country.objects.using(alias).get(code="aa").delete()
            Country(code="aa", number=2).save(using=alias)
            Country.objects.using(alias).get(code="aa").save(update_fields=["number"])

        assert [(run["signal"], run["instance"].number, run["created"]) for run in runs] == [
            (post_save, 2, True)
        ]

    def test_an_update_before_the_deletion_is_not_told_of_a_new_row(
        self, connect, receive, runs
    ) -> None:
        """What was saved before a deletion says nothing about the row that came after it."""
        Country.objects.create(code="aa", number=1)
        connect(
            [post_save, post_delete],
            receive,
            sender=Country,
            coalesce=True,
        )
        with transaction.atomic():
            country = Country.objects.get()
            country.save(update_fields=["number"])
            country.delete()
            Country(code="aa", number=2).save(force_insert=True)

        assert told(runs, "signal", "created", "update_fields") == [(post_save, True, None)]


class TestKeys:
    @pytest.fixture
    def events(self, connect, sent):
        """Send with these arguments in one transaction; return what is left by ``n``."""

        def receive(**kwargs) -> None: ...

        def send(*events, coalesce=True, **options):
            connect(signal, receive, coalesce=coalesce, **options)
            with transaction.atomic():
                for n, event in enumerate(events):
                    signal.send(**{"sender": None, "n": n} | event)
            return [envelope.kwargs["n"] for envelope in sent]

        return send

    def test_without_an_instance_the_sender_counts(self, events) -> None:
        """A signal that carries no ``instance`` is about its sender."""
        assert events({}, {"sender": Tag}, {}, {"sender": Article}, {"sender": Tag}) == [2, 3, 4]

    def test_other_senders_are_other_objects(self, events) -> None:
        """The sender is part of it."""
        tag = Tag(pk=1)
        assert events({"sender": Tag, "instance": tag}, {"sender": Article, "instance": tag}) == [
            0,
            1,
        ]

    def test_unsaved_instances_count_by_themselves(self, events) -> None:
        """Without a key, an object is only itself."""
        tag = Tag(name="a")
        assert events({"instance": tag}, {"instance": Tag(name="a")}, {"instance": tag}) == [1, 2]

    def test_other_things_called_instance_count_by_themselves(self, events) -> None:
        """An instance of no model is itself, too, and never taken for another."""
        one, two = [1], [1]
        assert events({"instance": one}, {"instance": two}, {"instance": one}) == [1, 2]

    def test_a_key_given_as_text_is_the_same_row(self, events) -> None:
        """``Tag(pk="3")`` is ``Tag(pk=3)``; what the field does not know, is what it is."""
        assert events(
            {"instance": Tag(pk=3)},
            {"instance": Tag(pk="3")},
            {"instance": Note(pk="no uuid")},
            {"instance": LongArticle(pk=3)},
            {"instance": LongArticle(pk="3")},
        ) == [1, 2, 4]

    def test_composite_keys(self, events) -> None:
        """A key of two columns counts whole; one that is not complete is none."""
        first = Line(order_number=1, position=2)
        again = Line(order_number="1", position=2)
        second = Line(order_number=1, position=3)
        assert events(
            {"instance": first},
            {"instance": second},
            {"instance": again},
            {"instance": Line(order_number=1)},
            {"instance": Line(order_number=1)},
        ) == [1, 2, 3, 4]

    def test_a_proxy_is_the_same_row(self, events) -> None:
        """With one sender, an instance of a proxy model is the row that it shows."""
        assert events({"instance": Article(pk=1)}, {"instance": ArticleProxy(pk=1)}) == [1]

    def test_other_databases_are_other_objects(self, events) -> None:
        """Row 1 here is not row 1 there, even where one commit decides about both."""
        here, there = Tag(pk=1), Tag(pk=1)
        here._state.db, there._state.db = "default", "other"
        assert events(
            {"instance": here}, {"instance": there}, {"instance": here}, using="default"
        ) == [1, 2]

    def test_receivers_do_not_share(self, connect, sent) -> None:
        """Each receiver has its own."""

        def one(**kwargs) -> None: ...

        def two(**kwargs) -> None: ...

        for receiver in (one, two):
            connect(signal, receiver, coalesce=True)
        with transaction.atomic():
            for n in (1, 2):
                signal.send(sender=None, n=n)

        assert [envelope.kwargs["n"] for envelope in sent] == [2, 2]

    def test_signals_of_one_receiver_share(self, connect, sent) -> None:
        """A receiver of two signals hears of the last one."""

        def receive(**kwargs) -> None: ...

        connect([signal, other_signal], receive, coalesce=True)
        with transaction.atomic():
            signal.send(sender=None, n=1)
            other_signal.send(sender=None, n=2)

        assert [envelope.kwargs["n"] for envelope in sent] == [2]

    def test_a_function_gives_the_key(self, events) -> None:
        """Events with equal keys are one; None keeps an event by itself."""
        assert events(
            {"order": 1},
            {"order": 2},
            {"order": None},
            {"order": 1},
            {"order": None},
            coalesce=lambda sender, order, **kwargs: order,
        ) == [1, 2, 3, 4]

    def test_a_function_may_give_an_instance(self, events) -> None:
        """It counts as a row, loaded here or there."""
        assert events(
            {"instance": Tag(pk=1)},
            {"instance": Tag(pk=1)},
            {"instance": Tag(name="new")},
            coalesce=lambda sender, instance, **kwargs: instance,
        ) == [1, 2]

    def test_a_key_that_cannot_be_hashed_is_refused(self, connect, sent) -> None:
        """At send, with the cure."""

        def receive(**kwargs) -> None: ...

        connect(signal, receive, name="test.listing", coalesce=lambda sender, **kwargs: [1])
        with transaction.atomic(), pytest.raises(TypeError) as caught:
            signal.send(sender=None)

        assert str(caught.value) == (
            "cannot coalesce for test.listing: expected a key that can be hashed, got: list. "
            "Return a text, a number or a tuple of them."
        )
        assert sent == []

    def test_saves_of_several_rows_under_one_key(self, connect, sent) -> None:
        """The last wins; only saves of the very same row tell anything about it."""

        def receive(**kwargs) -> None: ...

        connect(post_save, receive, sender=Article, coalesce=lambda sender, **kwargs: "all")
        old = Article.objects.create(title="old")
        sent.clear()
        with transaction.atomic():
            old.save(update_fields=["title"])
            Article.objects.create(title="new")
            old.save(update_fields=["body"])

        [envelope] = sent
        kwargs = codec.decode(envelope.kwargs)
        assert kwargs["instance"] == old
        assert (kwargs["created"], kwargs["update_fields"]) == (False, {"title", "body"})


class TestWhereNothingCoalesces:
    def test_autocommit(self, connect, receive, runs) -> None:
        """There is no transaction that the events would share."""
        connect(post_save, receive, sender=Tag, coalesce=True)
        Tag.objects.create(name="a").save()

        assert told(runs, "created") == [(True,), (False,)]

    def test_on_commit_false(self, connect, receive, runs) -> None:
        """What is sent at once is sent each time."""
        connect(post_save, receive, sender=Tag, coalesce=True, on_commit=False)
        with transaction.atomic():
            Tag.objects.create(name="a").save()

        assert told(runs, "created") == [(True,), (False,)]

    def test_two_transactions(self, connect, receive, runs) -> None:
        """Each transaction has its own."""
        connect(post_save, receive, sender=Tag, coalesce=True)
        with transaction.atomic():
            tag = Tag.objects.create(name="a")
            tag.save()
        with transaction.atomic():
            tag.save()

        assert told(runs, "created") == [(True,), (False,)]

    def test_what_when_refuses_takes_no_part(self, connect, receive, runs) -> None:
        """An event that is not sent merges with nothing."""
        connect(
            post_save,
            receive,
            sender=Tag,
            coalesce=True,
            when=lambda sender, instance, **kwargs: instance.name != "quiet",
        )
        with transaction.atomic():
            tag = Tag.objects.create(name="quiet")
            tag.name = "loud"
            tag.save()

        assert told(runs, "created") == [(False,)]

    def test_before_and_after_a_first_save(self, connect, receive, runs) -> None:
        """An object without a key is not known to be the row that it becomes."""
        connect([pre_save, post_save], receive, sender=Tag, coalesce=True)
        with transaction.atomic():
            Tag.objects.create(name="a")

        assert told(runs, "signal") == [(pre_save,), (post_save,)]

    def test_many_to_many_changes_are_another_senders(self, connect, receive, runs) -> None:
        """The through model is their sender, so they never swallow a save."""
        connect(post_save, receive, sender=Article, coalesce=True)
        connect(m2m_changed, receive, sender=Article.tags.through, coalesce=True)
        with transaction.atomic():
            Article.objects.create(title="a").tags.add(Tag.objects.create(name="t"))

        assert told(runs, "signal", "action") == [(post_save, None), (m2m_changed, "post_add")]


def receive_in_tests(**kwargs) -> None:
    """A receiver for the test case below."""


class InTestCase(TestCase):
    """Inside Django's own TestCase, where each captured callback is called by itself."""

    def setUp(self) -> None:
        from async_signals import connect

        connect(signal, receive_in_tests, coalesce=True)
        self.addCleanup(signal.disconnect, receive_in_tests)

    def test_captured_callbacks_send_the_coalesced(self) -> None:
        """As in production: the last at its place, and nothing of what was sent before."""
        one, two = Tag.objects.create(name="1"), Tag.objects.create(name="2")
        with testing.capture() as sent:
            signal.send(sender=None, instance=two, n=0)
            with self.captureOnCommitCallbacks(execute=True):
                for n, tag in enumerate([one, two, one], start=1):
                    signal.send(sender=None, instance=tag, n=n)
                with undone():
                    signal.send(sender=None, instance=one, n=9)
            with self.captureOnCommitCallbacks(execute=True):
                signal.send(sender=None, instance=one, n=4)
        self.assertEqual([envelope.kwargs["n"] for envelope in sent], [2, 3, 4])

    def test_saves_are_merged_there_too(self) -> None:
        """What only the earlier saves knew comes along."""
        from async_signals import connect

        runs = []

        def receive(created, instance, **kwargs) -> None:
            runs.append((created, instance.name))

        connect(post_save, receive, sender=Tag, coalesce=True)
        self.addCleanup(post_save.disconnect, receive, sender=Tag)
        with testing.run_inline(), self.captureOnCommitCallbacks(execute=True):
            tag = Tag.objects.create(name="a")
            tag.save()
            tag.name = "b"
            tag.save()
        self.assertEqual(runs, [(True, "b")])
