"""Names, options, and what is refused where it is written."""

from __future__ import annotations

import functools

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models.signals import post_save
from django.dispatch import Signal

from async_signals import (
    DuplicateReceiverError,
    RegistrationError,
    async_receiver,
    connect,
    current_delivery,
    muted,
    registry,
)
from tests.testapp.models import Tag

HERE = __file__


def line_of(function) -> str:
    return f"{HERE}:{function.__code__.co_firstlineno}"


def module_level(**kwargs) -> None:
    """A receiver as most are."""


class TestNames:
    def test_it_is_the_functions_path(self) -> None:
        """A receiver is called as it would be imported."""
        connect(Signal(), module_level)

        assert registry.get(f"{__name__}.module_level").function is module_level

    def test_it_can_be_given(self) -> None:
        """``name=`` is the whole name, of the receiver and of its task."""

        def receive(**kwargs) -> None: ...

        connect(Signal(), receive, name="shop.mail_the_admins")

        assert registry.get("shop.mail_the_admins").function is receive

    def test_a_lambda_needs_one(self) -> None:
        """A lambda has no name that sender and worker could share; the error has the place."""
        receive = lambda **kwargs: None  # noqa: E731

        with pytest.raises(RegistrationError) as caught:
            connect(Signal(), receive)
        assert str(caught.value) == (
            f"cannot name the receiver at {line_of(receive)}: expected a function with a name of "
            "its own, got: a lambda. Give it one that sender and worker share, "
            "@async_receiver(..., name='app.what_it_does')."
        )
        connect(Signal(), receive, name="shop.a_lambda")
        assert registry.get("shop.a_lambda").function is receive

    def test_a_partial_needs_one(self) -> None:
        """Neither has a partial."""
        with pytest.raises(RegistrationError, match="got: partial"):
            connect(Signal(), functools.partial(module_level))

    def test_two_live_receivers_under_one_name(self) -> None:
        """The second is refused, with both places."""

        def one(**kwargs) -> None: ...

        def two(**kwargs) -> None: ...

        connect(Signal(), one, name="shop.twice")
        with pytest.raises(DuplicateReceiverError) as caught:
            connect(Signal(), two, name="shop.twice")
        assert str(caught.value) == (
            f"cannot register 'shop.twice' at {line_of(two)}: expected a name that is free, got: "
            f"the name of the live receiver at {line_of(one)}. "
            "Give one of them another with @async_receiver(..., name=...)."
        )

    def test_the_name_of_a_dead_receiver_is_free(self) -> None:
        """A closure that has died stands in nobody's way."""

        def make():
            def receive(**kwargs) -> None: ...

            connect(Signal(), receive, name="shop.closure")
            return receive

        first = make()
        del first
        second = make()

        assert registry.get("shop.closure").function is second

    def test_an_alias_is_a_name(self) -> None:
        """``aliases=`` keeps old names; they may not be anybody else's."""

        def renamed(**kwargs) -> None: ...

        def other(**kwargs) -> None: ...

        connect(Signal(), renamed, name="shop.new", aliases=["shop.old"])

        assert registry.get("shop.old").name == "shop.new"
        with pytest.raises(DuplicateReceiverError, match=r"cannot register 'shop\.old'"):
            connect(Signal(), other, name="shop.old")

    def test_other_options_for_the_same_receiver(self) -> None:
        """One receiver, one name, one set of options; the error shows both."""

        def receive(**kwargs) -> None: ...

        connect(Signal(), receive, name="shop.options", queue="mail")
        with pytest.raises(DuplicateReceiverError) as caught:
            connect(Signal(), receive, name="shop.options", queue="slow")
        assert str(caught.value) == (
            f"cannot register 'shop.options' at {line_of(receive)} again: expected the options "
            "that it has, queue='mail', got: queue='slow'. "
            "Give the second registration a name of its own with name=..."
        )
        connect(Signal(), receive, name="shop.options_2", queue="slow")


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"robst": True}, TypeError, "cannot use option 'robst': expected one of"),
            ({"exclude": "request"}, TypeError, "Write exclude=['request']."),
            ({"missing": "ignore"}, ValueError, "expected one of ('fail', 'skip', 'retry', 'snaps"),
            ({"on_commit": "no"}, TypeError, "expected True or False, got: str."),
            ({"countdown": "5"}, TypeError, "expected seconds, 0 or more, got: str."),
            ({"expires": -1}, TypeError, "expected seconds, 0 or more, got: int."),
            ({"queue": 5}, TypeError, "expected the name of a queue, got: int."),
            ({"priority": "x"}, TypeError, "expected a whole number, got: str."),
            ({"rate_limit": "abc"}, TypeError, "or as in '10/m', got: str."),
            ({"aliases": "shop.old"}, TypeError, "Write aliases=['shop.old']."),
            ({"instance": "row"}, ValueError, "expected one of ('reference', 'snapshot', 'both')"),
            ({"when": 1}, TypeError, "expected a plain function of (sender, **kwargs)"),
        ],
    )
    def test_a_wrong_one_is_refused_where_it_is_written(self, options, error, message) -> None:
        """At decoration, not at the first send."""
        with pytest.raises(error) as caught:
            connect(Signal(), module_level, **options)
        assert message in str(caught.value)

    def test_when_is_asked_at_send(self, connect, sent, db) -> None:
        """A false ``when`` queues nothing; it sees the sender and the arguments."""
        signal = Signal()

        def receive(**kwargs) -> None: ...

        connect(signal, receive, when=lambda sender, created, **kw: created, on_commit=False)
        signal.send(sender=None, created=False)
        signal.send(sender=None, created=True)

        assert [envelope.kwargs["created"] for envelope in sent] == [True]

    def test_exclude_leaves_arguments_out(self, connect, sent, db) -> None:
        """What is excluded need not be of a type that can travel."""
        signal = Signal()

        def receive(**kwargs) -> None: ...

        connect(signal, receive, exclude=["file"], on_commit=False)
        signal.send(sender=None, file=object(), size=1)

        assert [envelope.kwargs for envelope in sent] == [{"size": 1}]

    def test_defaults_come_from_the_settings(self, settings, connect, sent, db) -> None:
        """``DEFAULTS`` are the options of every receiver that does not say otherwise."""
        settings.ASYNC_SIGNALS = {"DEFAULTS": {"exclude": ["size"], "on_commit": False}}
        signal = Signal()

        def receive(**kwargs) -> None: ...

        def other(**kwargs) -> None: ...

        connect(signal, receive)
        connect(signal, other, exclude=[])
        signal.send(sender=None, size=1)

        assert [envelope.kwargs for envelope in sent] == [{}, {"size": 1}]


class TestLeftOut:
    def test_a_request_stays_at_home(self, connect, sent, db) -> None:
        """What Django's own signals carry and no process can share is left out."""

        def receive(user, request=None, **kwargs) -> None: ...

        connect(user_logged_out, receive, on_commit=False)
        user_logged_out.send(sender=User, request=object(), user=None)

        assert [envelope.kwargs for envelope in sent] == [{"user": None}]

    def test_a_receiver_that_needs_it_is_refused_at_connect(self) -> None:
        """Not in the worker, and not silently without it."""

        def receive(sender, request, user, **kwargs) -> None: ...

        with pytest.raises(RegistrationError) as caught:
            connect(user_logged_in, receive, name="shop.needs_request")
        assert str(caught.value) == (
            "cannot connect shop.needs_request to user_logged_in: expected a receiver that can do "
            "without 'request', which never leaves the process, got: a parameter without default. "
            "Write request=None, or take what you need of it in a plain @receiver."
        )


class TestMuted:
    def test_all(self, connect, sent, db) -> None:
        """Inside ``muted()`` asynchronous receivers get nothing, plain ones everything."""
        signal, plain = Signal(), []

        def receive(**kwargs) -> None: ...

        def plain_receiver(**kwargs) -> None:
            plain.append(1)

        connect(signal, receive, on_commit=False)
        signal.connect(plain_receiver)
        with muted():
            signal.send(sender=None)
        signal.send(sender=None)

        assert (len(sent), len(plain)) == (1, 2)

    @pytest.mark.parametrize("by", ["signal", "receiver", "name"])
    def test_one(self, by, connect, sent, db) -> None:
        """A signal, a receiver or its name can be muted alone."""
        signal, other = Signal(), Signal()

        def receive(**kwargs) -> None: ...

        def second(**kwargs) -> None: ...

        connect(signal, receive, name=f"shop.muted_{by}", on_commit=False)
        connect(other, second, on_commit=False)
        what = {"signal": signal, "receiver": receive, "name": f"shop.muted_{by}"}[by]
        with muted(what):
            signal.send(sender=None)
            other.send(sender=None)

        assert [envelope.receiver.rpartition(".")[2] for envelope in sent] == ["second"]

    def test_other_threads_are_not_muted(self, connect, transactional_db) -> None:
        """Muting ends at the context: another thread sends as ever."""
        import threading

        from async_signals import testing

        signal, counts = Signal(), []

        def receive(**kwargs) -> None: ...

        connect(signal, receive, on_commit=False)

        def elsewhere() -> None:
            with testing.capture() as sent:
                signal.send(sender=None)
                counts.append(len(sent))

        with muted():
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join(timeout=10)

        assert counts == [1]


class TestCurrentDelivery:
    def test_a_plain_call_has_none(self) -> None:
        """Outside a worker a receiver is a function like any other."""
        assert current_delivery() is None

    def test_receivers_of_one_event_share_it(self, connect, inline, db) -> None:
        """Every delivery has an id of its own; those of one event have the event in common."""
        signal, got = Signal(), []

        def first(**kwargs) -> None:
            got.append(current_delivery())

        def second(**kwargs) -> None:
            got.append(current_delivery())

        connect(signal, first, on_commit=False)
        connect(signal, second, on_commit=False)
        signal.send(sender=None, n=1)
        signal.send(sender=None, n=1)

        assert len({delivery.id for delivery in got}) == 4
        assert got[0].event_id == got[1].event_id != got[2].event_id == got[3].event_id
        assert {delivery.attempt for delivery in got} == {1}
        assert current_delivery() is None

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [(None, None), (Tag, Tag), (None, Tag), (Tag, None), (Tag, "testapp.TAG")],
    )
    def test_one_that_is_connected_later_shares_it(
        self, connect, inline, db, earlier, later
    ) -> None:
        """Whoever was alone until then, with whatever senders."""
        got = []

        def first(**kwargs) -> None:
            got.append(current_delivery())

        def second(**kwargs) -> None:
            got.append(current_delivery())

        connect(post_save, first, sender=earlier, on_commit=False)
        Tag.objects.create(name="of the first alone")
        connect(post_save, second, sender=later, on_commit=False)
        Tag.objects.create(name="of both")
        Tag.objects.create(name="of both, too")

        events = [delivery.event_id for delivery in got]
        assert events[1:] == [events[1], events[1], events[3], events[3]]
        assert len(set(events)) == 3

    def test_those_with_equal_senders_share_it(self, connect, inline, db) -> None:
        """A bound method is made anew each time it is asked for, and is the same to Django."""
        signal, got = Signal(), []

        def first(**kwargs) -> None:
            got.append(current_delivery())

        def second(**kwargs) -> None:
            got.append(current_delivery())

        senders = [Tag.from_db, Tag.from_db]
        for each, sender in zip((first, second), senders, strict=True):
            connect(signal, each, sender=sender, on_commit=False, exclude=["sender"])
        signal.send(sender=Tag.from_db)

        assert got[0].event_id == got[1].event_id

    def test_those_that_a_signal_of_the_sites_own_calls_share_it(self, connect, inline, db) -> None:
        """It may call the receivers of other senders, too."""

        class Parent: ...

        class Child(Parent): ...

        class ForChildren(Signal):
            def connect(self, receiver, sender=None, **kwargs) -> None:
                for each in (sender, *sender.__subclasses__()):
                    super().connect(receiver, each, **kwargs)

        signal, got = ForChildren(), []

        def first(**kwargs) -> None:
            got.append(current_delivery())

        def second(**kwargs) -> None:
            got.append(current_delivery())

        for each, sender in ((first, Parent), (second, Child)):
            connect(signal, each, sender=sender, on_commit=False, exclude=["sender"])
        signal.send(sender=Child)

        assert got[0].event_id == got[1].event_id

    def test_an_event_sent_in_between_is_another(self, connect, inline, db) -> None:
        """A plain receiver that sends an event of its own does not tear the outer one apart."""
        outer, inner, got = Signal(), Signal(), []

        def first(**kwargs) -> None:
            got.append(current_delivery())

        def between(**kwargs) -> None:
            inner.send(sender=None, n=2)

        def inside(**kwargs) -> None:
            got.append(current_delivery())

        def last(**kwargs) -> None:
            got.append(current_delivery())

        connect(inner, inside, on_commit=False)
        connect(outer, first, on_commit=False)
        outer.connect(between)
        connect(outer, last, on_commit=False)
        outer.send(sender=None, n=1)

        assert got[0].event_id == got[2].event_id != got[1].event_id


def test_the_decorator_takes_what_connect_takes(db) -> None:
    """Decorator and function are twins."""
    import inspect

    decorator = inspect.signature(async_receiver).parameters
    function = inspect.signature(connect).parameters

    assert set(function) - set(decorator) == {"receiver"}
    assert set(decorator) <= set(function)
