"""
Everything that Django promises of a receiver also holds for an asynchronous one.

One class for each row of docs/semantics.md. Where Django's versions differ, the promise is
that the asynchronous receiver does what a plain one does in the same version.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps as django_apps
from django.apps.registry import Apps
from django.db import models, transaction
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_save,
)
from django.dispatch import Signal
from django.utils.functional import SimpleLazyObject, empty

from async_signals import SerializationError, async_receiver, connect, testing
from tests.testapp.models import Article, ArticleProxy, LongArticle, Tag
from tests.testapp.signals import closed, reported

numbers = itertools.count()


class Calls:
    """A list of what a receiver was called with."""

    def __init__(self) -> None:
        self.all: list[dict] = []

    def __call__(self, **kwargs) -> str:
        self.all.append(kwargs)
        return "a response that nobody can have waited for"


def make_receiver(calls: Calls, name: str = ""):
    def receive(signal, sender, **kwargs):
        calls(signal=signal, sender=sender, **kwargs)

    # A failed test keeps its function alive; its name must not stand in the next one's way.
    receive.__qualname__ = name or f"receive_{next(numbers)}"
    return receive


class TestRow01ReturnsTheFunction:
    def test_the_decorated_function_is_the_function(self) -> None:
        """Calling a decorated receiver by its name is a plain call of the user's function."""
        signal = Signal()

        def receive(sender, **kwargs):
            return ("called", sender)

        assert receive is async_receiver(signal)(receive)
        assert receive(sender="x") == ("called", "x")
        assert not hasattr(receive, "delay")


class TestRow02ListsOfSignals:
    @pytest.mark.parametrize("kind", [list, tuple])
    def test_each_signal_is_connected(self, kind, inline, db) -> None:
        """A list or a tuple of signals connects to each of them."""
        calls = Calls()
        receive = make_receiver(calls)
        connect(kind([reported, closed]), receive, sender=Article, on_commit=False)

        reported.send(sender=Article, n=1)
        closed.send(sender=Article, n=2)

        assert [(call["signal"], call["n"]) for call in calls.all] == [(reported, 1), (closed, 2)]

    def test_two_signals_without_names_are_refused_at_send(self, sent, db) -> None:
        """A worker could not tell them apart, so the sender hears of it."""
        first, second = Signal(), Signal()
        receive = make_receiver(Calls(), "nameless")
        connect([first, second], receive)

        with pytest.raises(SerializationError) as caught:
            first.send(sender=None)
        assert str(caught.value) == (
            "cannot send 'signal' to tests.test_django_semantics.nameless: expected a signal that "
            "has a name, or the only one without, got: django.dispatch.dispatcher.Signal. "
            "Assign it to a name at the top level of a module."
        )

    def test_a_set_is_refused_as_django_refuses_it(self) -> None:
        """Anything else that holds signals raises Django's own AttributeError."""
        with pytest.raises(AttributeError, match="'set' object has no attribute 'connect'"):
            connect({Signal()}, make_receiver(Calls()))

    def test_each_sender_arrives_as_what_it_is_then(self, inline, db) -> None:
        """Models in turns, and what stands for a class now, and for another one later."""

        def receive(sender, **kwargs):
            called.append(sender)

        called, signal = [], Signal()
        connect(signal, receive, on_commit=False, name="shop.whoever")
        chosen = Article
        lazy = SimpleLazyObject(lambda: chosen)
        signal.send(sender=lazy)
        chosen = Tag
        lazy._wrapped = empty
        senders = [Article, Tag, Article, None, "Article", models.Model, Tag]
        for sender in (lazy, *senders):
            signal.send(sender=sender)

        assert called == [Article, Tag, *senders]

    def test_a_list_of_senders_connects_to_each(self, inline, db) -> None:
        """The course's list of senders works for signals of every kind."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, sender=[Article, Tag], on_commit=False)

        signal.send(sender=Article)
        signal.send(sender=Tag)
        signal.send(sender=LongArticle)

        assert [call["sender"] for call in calls.all] == [Article, Tag]


class TestRow03UnknownArguments:
    def test_an_unknown_option_is_a_type_error_at_decoration(self) -> None:
        """A misspelt option is refused where it is written, with the nearest one that exists."""
        with pytest.raises(TypeError) as caught:
            async_receiver(Signal(), on_comit=False)(make_receiver(Calls()))

        assert "cannot use option 'on_comit'" in str(caught.value)
        assert "Did you mean 'on_commit'?" in str(caught.value)

    def test_apps_is_legal_on_model_signals_only(self) -> None:
        """``apps`` reaches ``ModelSignal.connect``, and a plain Signal refuses it as ever."""
        receive = make_receiver(Calls())
        connect(post_save, receive, sender="testapp.Later", apps=Apps())

        assert ("testapp", "later") not in django_apps._pending_operations
        with pytest.raises(TypeError, match="unexpected keyword argument 'apps'"):
            connect(Signal(), receive, apps=Apps())


class TestRow04Stacking:
    def test_the_same_function_twice_is_one_connection(self, inline, db) -> None:
        """A receiver that is connected twice to a signal is called once."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, on_commit=False)
        connect(signal, receive, on_commit=False)

        signal.send(sender=None)

        assert len(calls.all) == 1

    def test_with_and_without_a_uid_is_two_connections(self, inline, db) -> None:
        """As in Django, a dispatch_uid makes another connection of the same function."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, on_commit=False)
        connect(signal, receive, dispatch_uid="uid", on_commit=False)

        signal.send(sender=None)

        assert len(calls.all) == 2


class TestRow05Identity:
    def test_a_plain_connection_of_the_same_function_is_the_same_key(self, inline, db) -> None:
        """``signal.connect(function)`` after ``connect`` of it is ignored, as a second one is."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, on_commit=False)
        signal.connect(receive)

        signal.send(sender=None)

        assert len(calls.all) == 1

    def test_bound_methods_are_told_apart_by_their_object(self, inline, db) -> None:
        """The same method of two objects is two receivers; each needs a name of its own."""

        class Listener:
            def __init__(self) -> None:
                self.got = 0

            def receive(self, **kwargs) -> None:
                self.got += 1

        signal, first, second = Signal(), Listener(), Listener()
        connect(signal, first.receive, name="listener.first", on_commit=False)
        connect(signal, second.receive, name="listener.second", on_commit=False)

        signal.send(sender=None)
        assert signal.disconnect(first.receive) is True
        signal.send(sender=None)

        assert (first.got, second.got) == (1, 2)

    @pytest.mark.parametrize("falsy", ["", 0])
    def test_a_falsy_uid_counts_as_none(self, falsy, inline, db) -> None:
        """An empty dispatch_uid is ignored, so disconnecting by function works."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive, dispatch_uid=falsy)

        assert signal.disconnect(receive) is True


class TestRow06FirstUidWins:
    def test_a_second_receiver_with_the_uid_is_ignored(self, inline, db) -> None:
        """One dispatch_uid and sender: the first receiver stays, silently."""
        signal, first, second = Signal(), Calls(), Calls()
        one, two = make_receiver(first, "one"), make_receiver(second, "two")
        connect(signal, one, dispatch_uid="uid", on_commit=False)
        connect(signal, two, dispatch_uid="uid", on_commit=False)

        signal.send(sender=None)

        assert (len(first.all), len(second.all)) == (1, 0)

    def test_another_sender_is_another_connection(self, inline, db) -> None:
        """One dispatch_uid for two senders is two connections; any hashable will do."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        for sender in (Article, Tag):
            connect(
                signal, receive, sender=sender, dispatch_uid=("any", "hashable"), on_commit=False
            )

        signal.send(sender=Article)
        signal.send(sender=Tag)

        assert [call["sender"] for call in calls.all] == [Article, Tag]


class TestRow07Disconnect:
    def test_by_the_users_own_function(self) -> None:
        """``disconnect(function)`` is True once, then False, and ends the deliveries."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive)

        assert signal.has_listeners() is True
        assert signal.disconnect(receive) is True
        assert signal.disconnect(receive) is False
        assert signal.has_listeners() is False

    def test_with_a_sender(self) -> None:
        """The sender that it was connected with is part of what is disconnected."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive, sender=Article)

        assert signal.disconnect(receive) is False
        assert signal.disconnect(receive, sender=Article) is True

    def test_by_uid(self) -> None:
        """What was connected with a uid goes by its uid, and not by its function."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive, dispatch_uid="uid")

        assert signal.disconnect(receive) is False
        assert signal.disconnect(dispatch_uid="uid") is True
        assert signal.disconnect(dispatch_uid="uid") is False

    def test_of_a_bound_method(self) -> None:
        """Each access makes a new method object; any of them disconnects."""

        class Listener:
            def receive(self, **kwargs) -> None: ...

        signal, listener = Signal(), Listener()
        connect(signal, listener.receive, name="listener.disconnect")

        assert signal.disconnect(listener.receive) is True


class TestRow08LazySender:
    def test_a_label_connects_to_the_model(self, inline, transactional_db) -> None:
        """``sender="app.Model"`` works on model signals and returns None as Django does."""
        calls = Calls()
        receive = make_receiver(calls)

        assert connect(post_save, receive, sender="testapp.Tag") is None
        tag = Tag.objects.create(name="lazy")

        assert [call["instance"] for call in calls.all] == [tag]
        assert post_save.disconnect(receive, sender="testapp.Tag") is None
        Tag.objects.create(name="after")
        assert len(calls.all) == 1

    def test_a_wrong_label_raises_djangos_error(self) -> None:
        """A label without a dot is Django's own ValueError."""
        with pytest.raises(ValueError, match="Invalid model reference 'Tag'"):
            connect(post_save, make_receiver(Calls()), sender="Tag")

    def test_a_plain_signal_matches_a_string_by_identity(self, inline, db) -> None:
        """On a plain Signal a string is an object like any other."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        sender = "".join(["a", "label"])
        connect(signal, receive, sender=sender, on_commit=False)

        signal.send(sender=sender)
        signal.send(sender="".join(["a", "label"]))

        assert len(calls.all) == 1


class TestRow09Weak:
    def test_a_closure_that_dies_is_dropped(self) -> None:
        """The connection lives exactly as long as the user's function: not longer ..."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive)

        del receive
        gc.collect()

        assert signal.has_listeners() is False
        assert signal.send(sender=None) == []

    def test_a_function_that_lives_stays_connected(self, inline, db) -> None:
        """... and not shorter, although nobody holds what Django was given."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, on_commit=False)

        gc.collect()
        signal.send(sender=None)

        assert len(calls.all) == 1

    def test_weak_false_keeps_it(self, inline, db) -> None:
        """``weak=False`` keeps a local function until it is disconnected."""
        signal, calls = Signal(), Calls()
        connect(signal, make_receiver(calls), weak=False, dispatch_uid="kept", on_commit=False)

        gc.collect()
        signal.send(sender=None)

        assert len(calls.all) == 1
        assert signal.disconnect(dispatch_uid="kept") is True

    def test_a_bound_method_lives_as_long_as_its_object(self) -> None:
        """A method is held as weakly as Django holds it, by its object."""

        class Listener:
            def receive(self, **kwargs) -> None: ...

        signal, listener = Signal(), Listener()
        connect(signal, listener.receive, name="listener.weak")
        gc.collect()
        assert signal.has_listeners() is True

        del listener
        gc.collect()

        assert signal.has_listeners() is False

    def test_a_closure_that_dies_is_dropped_in_debug_too(self, settings) -> None:
        """With DEBUG Django keeps the functions that it looked at, and nothing of ours."""
        settings.DEBUG = True
        signal = Signal()

        class Listener:
            def __call__(self, **kwargs) -> None: ...

        listener = Listener()
        connect(signal, listener, name="listener.debug")
        assert signal.has_listeners() is True
        # Django's cache of signatures is what keeps the object; make it forget.
        from django.utils import inspect as django_inspect

        django_inspect._get_func_parameters.cache_clear()
        del listener
        gc.collect()

        assert signal.has_listeners() is False

    def test_a_method_whose_object_dies_is_dropped_in_debug_too(self, settings) -> None:
        """Django keeps its function then, and with it nothing of the connection."""
        settings.DEBUG = True

        class Listener:
            def receive(self, **kwargs) -> None: ...

        signal, listener = Signal(), Listener()
        connect(signal, listener.receive, name="listener.method.debug")
        assert signal.has_listeners() is True

        del listener
        gc.collect()

        assert signal.has_listeners() is False

    def test_a_new_function_at_the_address_of_a_dead_one_is_connected(self, inline, db) -> None:
        """No address that is used again can hide a receiver behind a dead one."""
        signal, calls = Signal(), Calls()
        for _ in range(50):
            receive = make_receiver(calls)
            connect(signal, receive, on_commit=False)
            signal.send(sender=None)
            del receive

        assert len(calls.all) == 50


class TestRow10DeadSenders:
    def test_a_dead_sender_takes_its_connection_along_where_django_has_it_so(self) -> None:
        """What Django drops with a dead sender, it drops of ours; what it keeps, it keeps."""

        class Sender: ...

        def receive(**kwargs) -> None: ...

        def kept_after_the_sender_died(connect_it) -> int:
            signal, sender = Signal(), Sender()
            connect_it(signal, sender)
            assert signal.has_listeners(sender) is True
            del sender
            gc.collect()
            signal.has_listeners()  # Django clears what is dead when it is asked.
            return len(signal.receivers)

        ours = kept_after_the_sender_died(lambda s, sender: connect(s, receive, sender=sender))
        plain = kept_after_the_sender_died(lambda s, sender: s.connect(receive, sender=sender))

        assert ours == plain


class TestRow11Caching:
    def test_a_caching_signal_sees_connects_and_disconnects(self, inline, db) -> None:
        """``use_caching`` signals forget their cache as they do for plain receivers."""
        signal, calls = Signal(use_caching=True), Calls()
        receive = make_receiver(calls)

        signal.send(sender=Article)
        connect(signal, receive, on_commit=False)
        signal.send(sender=Article)
        signal.disconnect(receive)
        signal.send(sender=Article)

        assert len(calls.all) == 1


class TestRow12HasListeners:
    def test_it_is_true_for_an_asynchronous_receiver(self) -> None:
        """``has_listeners`` tells of ours as of any other, by sender."""
        signal = Signal()
        receive = make_receiver(Calls())
        connect(signal, receive, sender=Article)

        assert signal.has_listeners(Article) is True
        assert signal.has_listeners(Tag) is False


class TestRow13Filtering:
    def test_only_the_very_sender_matches(self, inline, transactional_db) -> None:
        """Neither parents nor children nor proxies of a sender are the sender."""
        calls = Calls()
        receive = make_receiver(calls)
        connect(post_save, receive, sender=Article)
        try:
            Article.objects.create(title="it")
            LongArticle.objects.create(title="a child")
            ArticleProxy.objects.create(title="a proxy")
        finally:
            post_save.disconnect(receive, sender=Article)

        assert [call["instance"].title for call in calls.all] == ["it"]

    def test_a_proxy_arrives_as_its_proxy(self, inline, transactional_db) -> None:
        """Sender and instance of a proxy model are of the proxy model."""
        calls = Calls()
        receive = make_receiver(calls)
        connect(post_save, receive, sender=ArticleProxy)
        try:
            ArticleProxy.objects.create(title="a proxy")
        finally:
            post_save.disconnect(receive, sender=ArticleProxy)

        assert calls.all[0]["sender"] is ArticleProxy
        assert type(calls.all[0]["instance"]) is ArticleProxy

    def test_deleting_a_child_sends_child_and_parent(self, inline, transactional_db) -> None:
        """Multi-table inheritance: both senders are told, each with an instance of its own."""
        calls = Calls()
        receive = make_receiver(calls)
        child = LongArticle.objects.create(title="both", pages=7)
        connect(post_delete, receive, sender=[LongArticle, Article])
        try:
            child.delete()
        finally:
            for sender in (LongArticle, Article):
                post_delete.disconnect(receive, sender=sender)

        got = {call["sender"]: call["instance"] for call in calls.all}
        assert set(got) == {LongArticle, Article}
        assert got[LongArticle].pages == 7
        assert got[Article].title == "both"


class TestRow14CallShape:
    def test_everything_is_passed_by_keyword(self, inline, db) -> None:
        """A receiver may name what it likes, in any order, and also the signal."""
        signal, got = Signal(), []

        def receive(size, *, signal, **kwargs) -> None:
            got.append((size, signal, kwargs))

        connect(signal, receive, on_commit=False)
        signal.send(sender=Article, toppings=["ham"], size=3)

        assert got == [(3, signal, {"sender": Article, "toppings": ["ham"]})]

    def test_a_receiver_may_name_nothing(self, inline, db) -> None:
        """``def receive(**kwargs)`` gets everything."""
        signal, got = Signal(), []

        def receive(**kwargs) -> None:
            got.append(kwargs)

        connect(signal, receive, on_commit=False)
        signal.send(sender=None, n=1)

        assert got == [{"signal": signal, "sender": None, "n": 1}]


class TestRow15Validation:
    def test_debug_refuses_a_receiver_without_kwargs(self, settings) -> None:
        """Django's own error, in full."""
        settings.DEBUG = True

        def receive(sender) -> None: ...

        with pytest.raises(ValueError) as caught:
            connect(Signal(), receive)
        assert str(caught.value) == "Signal receivers must accept keyword arguments (**kwargs)."

    def test_debug_refuses_what_cannot_be_called(self, settings) -> None:
        """Django's own error, in full."""
        settings.DEBUG = True

        with pytest.raises(TypeError) as caught:
            connect(Signal(), "not a function")
        assert str(caught.value) == "Signal receivers must be callable."

    def test_without_debug_it_is_a_type_error_in_the_worker(self, inline, db) -> None:
        """As with Django, the call itself fails; here it is made by the worker."""
        signal = Signal()

        def receive(sender) -> None: ...

        connect(signal, receive, on_commit=False)
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            signal.send(sender=None)


class TestRow16Send:
    def test_responses_come_in_the_order_of_connection(self, sent, db) -> None:
        """Plain and asynchronous receivers keep their places; ours has no response."""
        signal = Signal()

        def first(**kwargs) -> str:
            return "first"

        def second(**kwargs) -> str:
            return "never seen"

        def third(**kwargs) -> str:
            return "third"

        signal.connect(first)
        connect(signal, second, on_commit=False)
        signal.connect(third)

        responses = signal.send(sender=None)

        assert [response for _, response in responses] == ["first", None, "third"]

    def test_an_error_of_a_plain_receiver_ends_the_event(self, sent, db) -> None:
        """Receivers after one that raised are not called, and nothing is sent to ours."""
        signal = Signal()

        def before(**kwargs) -> None: ...

        def broken(**kwargs) -> None:
            raise LookupError("broken")

        def after(**kwargs) -> None: ...

        connect(signal, before, on_commit=False)
        signal.connect(broken)
        connect(signal, after, on_commit=False)

        with pytest.raises(LookupError):
            signal.send(sender=None)
        assert [envelope.receiver.rpartition(".")[2] for envelope in sent] == ["before"]

    def test_no_receivers_no_responses(self) -> None:
        """An empty list, as ever."""
        assert Signal().send(sender=None) == []


class TestRow17SendRobust:
    def test_no_error_gets_out_and_the_log_names_the_receiver(self, sent, db, caplog) -> None:
        """What cannot be sent comes back as a response, and Django logs it by its name."""
        signal, after = Signal(), []

        def receive(**kwargs) -> None: ...

        def plain(**kwargs) -> str:
            after.append(1)
            return "called"

        connect(signal, receive, on_commit=False)
        signal.connect(plain)
        with caplog.at_level(logging.ERROR, logger="django.dispatch"):
            responses = signal.send_robust(sender=None, bad=object())

        assert isinstance(responses[0][1], SerializationError)
        assert responses[1][1] == "called"
        assert (
            f"Error calling {receive.__qualname__} in Signal.send_robust()"
            in caplog.records[0].getMessage()
        )
        assert caplog.records[0].exc_info is not None


class TestRow18AsyncSplit:
    def test_an_async_def_receiver_is_awaited(self, inline, db) -> None:
        """``async def`` receivers run to their end, not only until their first ``await``."""
        signal, got = Signal(), []

        async def receive(n, **kwargs) -> None:
            await asyncio.sleep(0)
            got.append(n)

        connect(signal, receive, on_commit=False)
        signal.send(sender=None, n=1)

        assert got == [1]

    def test_it_is_sent_from_the_thread_of_the_sender(self, sent, transactional_db) -> None:
        """An ``async def`` receiver waits for the commit as any other: it is no coroutine here."""
        signal = Signal()

        async def receive(**kwargs) -> None: ...

        connect(signal, receive)
        with transaction.atomic():
            signal.send(sender=None)
            assert sent == []
        assert len(sent) == 1

    def test_a_plain_function_that_returns_a_coroutine_is_awaited(self, inline, db) -> None:
        """No coroutine is left behind, however it came about."""
        signal, got = Signal(), []

        async def work() -> None:
            got.append("worked")

        def receive(**kwargs):
            return work()

        connect(signal, receive, on_commit=False)
        signal.send(sender=None)

        assert got == ["worked"]


class TestRow19SendWithAsyncReceivers:
    def test_plain_async_receivers_are_awaited_beside_ours(self, sent, db) -> None:
        """Django's own handling of plain ``async def`` receivers is untouched."""
        signal = Signal()

        async def plain(**kwargs) -> str:
            return "awaited here"

        async def ours(**kwargs) -> str:
            return "awaited in the worker"

        signal.connect(plain)
        connect(signal, ours, on_commit=False)

        responses = signal.send(sender=None)

        assert sorted(str(response) for _, response in responses) == ["None", "awaited here"]
        assert len(sent) == 1


@pytest.mark.django_db(transaction=True)
class TestRow20Asend:
    def test_asend_sends(self, sent) -> None:
        """``asend`` delivers to plain and ``async def`` receivers alike."""
        signal = Signal()

        def first(**kwargs) -> None: ...

        async def second(**kwargs) -> None: ...

        connect(signal, first, on_commit=False)
        connect(signal, second, on_commit=False)

        responses = asyncio.run(signal.asend(sender=None, n=1))

        assert [response for _, response in responses] == [None, None]
        assert len(sent) == 2

    def test_asend_runs_async_receivers_inline(self, inline) -> None:
        """A receiver that runs inline under ``asend`` may be asynchronous itself."""
        signal, got = Signal(), []

        async def receive(n, **kwargs) -> None:
            got.append(n)

        connect(signal, receive, on_commit=False)
        asyncio.run(signal.asend(sender=None, n=1))

        assert got == [1]

    def test_asend_robust_lets_no_error_out(self, sent) -> None:
        """``asend_robust`` returns what cannot be sent as a response."""
        signal = Signal()

        def receive(**kwargs) -> None: ...

        connect(signal, receive, on_commit=False)
        responses = asyncio.run(signal.asend_robust(sender=None, bad=object()))

        assert isinstance(responses[0][1], SerializationError)

    def test_asave_waits_for_the_commit(self, sent) -> None:
        """The asynchronous ORM sends with the transaction of its own thread."""

        def receive(**kwargs) -> None: ...

        def save() -> list:
            with transaction.atomic():
                Tag.objects.create(name="x")
                return list(sent)

        connect(post_save, receive, sender=Tag)
        inside = asyncio.run(sync_to_async(save)())
        post_save.disconnect(receive, sender=Tag)

        assert inside == []
        assert len(sent) == 1


class TestRow21NoInternals:
    def test_the_package_reads_nothing_private_of_a_signal(self) -> None:
        """What differs between Django's versions is never looked at."""
        from pathlib import Path

        import async_signals

        source = "".join(
            path.read_text() for path in Path(async_signals.__file__).parent.rglob("*.py")
        )
        for internal in ("_live_receivers", "_make_id", "_dead_receivers", "signal.receivers"):
            assert internal not in source


class TestRow22Threads:
    def test_connecting_and_sending_in_threads(self, db) -> None:
        """Connecting in many threads at once loses no connection."""
        import threading

        signal = Signal()
        receivers = [make_receiver(Calls(), f"thread_{n}") for n in range(40)]
        barrier = threading.Barrier(4)

        def work(part) -> None:
            barrier.wait(timeout=10)
            for receive in part:
                connect(signal, receive)

        threads = [threading.Thread(target=work, args=(receivers[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)

        assert all(signal.disconnect(receive) for receive in receivers)


@pytest.mark.django_db(transaction=True)
class TestRow23Arguments:
    def record(self, signal, sender, action):
        calls = Calls()
        receive = make_receiver(calls)
        connect(signal, receive, sender=sender)
        try:
            with testing.run_inline():
                action()
        finally:
            signal.disconnect(receive, sender=sender)
        for call in calls.all:
            del call["signal"], call["sender"]
        return calls.all

    def test_save(self) -> None:
        """pre_save and post_save arrive with every argument that Django sends."""
        tag = Tag(name="a")
        before = self.record(pre_save, Tag, tag.save)
        after = self.record(post_save, Tag, lambda: tag.save(update_fields=["name"]))

        assert before[0].keys() == {"instance", "raw", "using", "update_fields"}
        assert before[0]["update_fields"] is None
        assert after == [
            {
                "instance": tag,
                "raw": False,
                "using": "default",
                "update_fields": frozenset({"name"}),
                "created": False,
            }
        ]

    def test_delete(self) -> None:
        """post_delete carries the instance as it was, and what the deletion began with."""
        tag = Tag.objects.create(name="gone")
        pk = tag.pk
        [call] = self.record(post_delete, Tag, tag.delete)

        assert call.keys() == {"instance", "using", "origin"}
        assert (call["instance"].pk, call["instance"].name) == (pk, "gone")
        assert call["origin"] == call["instance"]

    def test_delete_of_a_queryset(self) -> None:
        """The origin of a bulk deletion arrives as a queryset of the model, empty by now."""
        Tag.objects.create(name="one")
        Tag.objects.create(name="two")
        calls = self.record(post_delete, Tag, lambda: Tag.objects.all().delete())

        assert sorted(call["instance"].name for call in calls) == ["one", "two"]
        assert isinstance(calls[0]["origin"], models.QuerySet)
        assert calls[0]["origin"].model is Tag
        assert list(calls[0]["origin"]) == []

    def test_m2m(self) -> None:
        """m2m_changed arrives with its set of keys, None on clear, and ``raw`` where it has one."""
        article = Article.objects.create(title="a")
        tag = Tag.objects.create(name="t")
        through = Article.tags.through

        added = self.record(m2m_changed, through, lambda: article.tags.add(tag))
        cleared = self.record(m2m_changed, through, article.tags.clear)
        plain = []

        def plain_receiver(**kwargs) -> None:
            plain.append(set(kwargs) - {"signal", "sender"})

        m2m_changed.connect(plain_receiver, sender=through)
        article.tags.add(tag)
        m2m_changed.disconnect(plain_receiver, sender=through)

        assert [call["action"] for call in added] == ["pre_add", "post_add"]
        assert added[0]["pk_set"] == {tag.pk}
        assert type(added[0]["pk_set"]) is set
        assert added[0]["model"] is Tag
        assert added[0]["instance"] == article
        assert set(added[0]) == plain[0]
        assert [call["pk_set"] for call in cleared] == [None, None]


@pytest.mark.django_db(transaction=True)
class TestRow24PrimaryKeys:
    def test_the_key_of_a_deleted_row_is_that_at_send(self) -> None:
        """``instance.pk`` becomes None when delete() returns; the receiver still gets it."""
        calls = Calls()
        receive = make_receiver(calls)
        connect(post_delete, receive, sender=Tag)
        tag = Tag.objects.create(name="gone")
        pk = tag.pk
        try:
            with testing.run_inline(), transaction.atomic():
                tag.delete()
                assert tag.pk is None
        finally:
            post_delete.disconnect(receive, sender=Tag)

        assert calls.all[0]["instance"].pk == pk

    def test_pre_save_of_a_new_row_has_none(self) -> None:
        """A row that does not exist yet arrives as it was: without a key, and adding."""
        calls = Calls()
        receive = make_receiver(calls)
        connect(pre_save, receive, sender=Tag, on_commit=False)
        try:
            with testing.run_inline():
                Tag.objects.create(name="new")
        finally:
            pre_save.disconnect(receive, sender=Tag)

        instance = calls.all[0]["instance"]
        assert (instance.pk, instance.name, instance._state.adding) == (None, "new", True)


def some_function() -> None:
    """A sender."""


class TestRow25Senders:
    @pytest.mark.parametrize(
        "sender", [some_function, Calls, Article, Article.tags.through, "django.contrib.auth", None]
    )
    def test_any_sender_that_the_worker_can_reach(self, sender, inline, db) -> None:
        """Functions, classes, models, automatic through models, strings and None arrive."""
        signal, calls = Signal(), Calls()
        receive = make_receiver(calls)
        connect(signal, receive, on_commit=False)

        signal.send(sender=sender)

        assert calls.all[0]["sender"] == sender

    def test_an_instance_as_sender_is_refused_by_name(self, sent, db) -> None:
        """A sender that cannot be reached is an error at send, which names it."""
        signal = Signal()

        def receive(**kwargs) -> None: ...

        connect(signal, receive)
        with pytest.raises(SerializationError, match="cannot send 'sender' to"):
            signal.send(sender=object())


@pytest.mark.django_db(transaction=True)
class TestRow26OnCommit:
    def test_it_leaves_with_the_transaction(self, sent) -> None:
        """In autocommit at once, in a transaction on its commit; test_transactions has the rest."""
        signal = Signal()

        def receive(**kwargs) -> None: ...

        connect(signal, receive)
        signal.send(sender=None)
        assert len(sent) == 1
        with transaction.atomic():
            signal.send(sender=None)
            assert len(sent) == 1
        assert len(sent) == 2


@pytest.mark.django_db(transaction=True)
class TestRow27WithoutSignals:
    def test_bulk_operations_send_nothing(self, sent) -> None:
        """Where Django sends no signal there is no delivery."""

        def receive(**kwargs) -> None: ...

        connect([pre_save, post_save], receive, sender=Tag)
        try:
            Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
            Tag.objects.update(name="c")
        finally:
            for signal in (pre_save, post_save):
                signal.disconnect(receive, sender=Tag)

        assert sent == []
