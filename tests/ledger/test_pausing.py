"""Who asks often which receivers are paused costs the database nothing."""

import pytest
from django.dispatch import Signal

from async_signals import OperationError, operations, registry, robust, stats
from async_signals.ledger import alias as ledger_alias
from async_signals.ledger import pausing
from async_signals.models import Operation, Pause, State
from async_signals.wire.envelope import pack

from .conftest import SENT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()


def test_the_ledger_is_where_the_routers_say(ledger) -> None:
    """A site that has a database router for it keeps the ledger where that says."""
    assert ledger_alias() == ledger


def test_paused_reads_once_a_second(ledger, monkeypatch) -> None:
    """A pause is seen by every process within a second, for one small query a second."""
    now = 100.0
    monkeypatch.setattr(pausing.time, "monotonic", lambda: now)
    assert pausing.paused() == frozenset()
    Pause.objects.using(ledger).create(receiver="shop.receive", since=SENT, by="ana")

    now += 0.99
    assert pausing.paused() == frozenset()
    now += 0.02
    assert pausing.paused() == {"shop.receive"}


def test_forget_reads_again(ledger) -> None:
    """The process that pauses a receiver sees it at once."""
    assert pausing.paused() == frozenset()
    Pause.objects.using(ledger).create(receiver="shop.receive", since=SENT, by="ana")

    pausing.forget()

    assert pausing.paused() == {"shop.receive"}


class TestOperations:
    def test_pause_and_resume(self, ledger, add) -> None:
        """A paused receiver is paused at once here, for whom and why is told; then not."""
        add()
        done = operations.pause("shop.receive", by="ana", via="admin", reason="smtp down")

        assert pausing.paused() == {"shop.receive"}
        pause = Pause.objects.using(ledger).get()
        assert (pause.by, pause.reason) == ("ana", "smtp down")
        assert (done.verb, done.target, done.changed) == ("pause", "receiver=shop.receive", 1)

        done = operations.resume("shop.receive", by="ben")
        assert pausing.paused() == frozenset()
        assert (done.verb, done.by, done.changed) == ("resume", "ben", 1)
        assert Operation.objects.using(ledger).count() == 2

    def test_twice(self, ledger, add) -> None:
        """A second pause changes nothing and keeps the first one's reason; a resume likewise."""
        add()
        operations.pause("shop.receive", by="ana", reason="first")

        assert operations.pause("shop.receive", by="ben", reason="second").unchanged == 1
        assert Pause.objects.using(ledger).get().reason == "first"
        assert operations.resume("shop.receive", by="ana").changed == 1
        assert operations.resume("shop.receive", by="ana").unchanged == 1

    def test_the_name_of_today(self, ledger, connect) -> None:
        """A receiver may be named by its alias; what is paused is the receiver."""

        def receive(**kwargs) -> None: ...

        connect(done, receive, name="shop.receive_orders", aliases=["shop.receive"], robust=True)

        operations.pause("shop.receive", by="ana")

        assert pausing.paused() == {"shop.receive_orders"}

    @pytest.mark.parametrize("today", ["shop.receive_orders", "shop.receive"])
    def test_a_pause_outlives_a_name(self, ledger, connect, sent, add, today) -> None:
        """A receiver that is renamed while it is paused waits, until any of its names goes on."""
        add(State.PENDING), add(State.PENDING, receiver="shop.receive_orders")
        operations.pause("shop.receive", by="ana", reason="smtp down")
        called = []

        def receive(**kwargs) -> None:
            called.append(kwargs)

        names = {"shop.receive_orders", "shop.receive"}
        connect(done, receive, name="shop.receive_orders", aliases=["shop.receive"], robust=True)
        done.send(None)

        assert not names & {*registry.known(without=pausing.paused())}
        [result] = robust.run(pack(sent), name="shop.receive_orders", worker="w")
        assert (result.state, called) == ("skipped", [])
        assert operations.pause(today, by="ben").changed == 0
        found = stats.summary()
        assert {each.receiver for each in found.receivers if each.is_paused} == names
        assert (found.oldest_due_at, found.late) == (None, 0)

        assert operations.resume(today, by="ben").changed == 1
        assert not Pause.objects.using(ledger).exists()
        assert names <= {*registry.known(without=pausing.paused())}
        assert not any(each.is_paused for each in stats.summary().receivers)

    def test_what_is_stored_under_an_earlier_name(self, ledger, connect, add) -> None:
        """It waits, too, and no page says otherwise."""
        add(State.PENDING)

        def receive(**kwargs) -> None: ...

        connect(done, receive, name="shop.receive_orders", aliases=["shop.receive"], robust=True)
        operations.pause("shop.receive_orders", by="ana")

        found = stats.summary()
        assert {each.receiver: each.is_paused for each in found.receivers} == {
            "shop.receive": True,
            "shop.receive_orders": True,
        }
        assert found.late == 0

    def test_capitals_tell_receivers_apart(self, ledger, connect, add) -> None:
        """Also where the database's collation does not; it pauses none in place of another."""

        def one(**kwargs) -> None: ...

        def other(**kwargs) -> None: ...

        connect(done, one, name="shop.notify", robust=True)
        connect(done, other, name="shop.Notify", robust=True)

        assert operations.pause("shop.notify", by="ana").changed == 1
        assert operations.resume("shop.Notify", by="ana").changed == 0
        assert pausing.paused() == {"shop.notify"}
        if ledger != "mariadb":
            assert operations.pause("shop.Notify", by="ana").changed == 1
            assert operations.resume("shop.notify", by="ana").changed == 1
            assert pausing.paused() == {"shop.Notify"}
            return
        with pytest.raises(OperationError) as caught:
            operations.pause("shop.Notify", by="ana")
        assert str(caught.value) == (
            "cannot pause shop.Notify: expected a name that the database tells from others, got: "
            "one that it takes for shop.notify, which is paused. Rename one of them with "
            "name=..., and aliases=[old name]."
        )
        assert pausing.paused() == {"shop.notify"}

    def test_capitals_of_what_only_the_ledger_knows(self, ledger, add) -> None:
        """A name with other capitals is another one, and the right one is named."""
        add(receiver="shop.notify")

        with pytest.raises(OperationError, match=r"Did you mean 'shop\.notify'\?"):
            operations.pause("shop.Notify", by="ana")

    def test_nobody_knows_it(self, ledger, connect) -> None:
        """A name with a slip in it pauses nothing, and the right one is named."""

        def receive(**kwargs) -> None: ...

        connect(done, receive, name="shop.receive_orders", robust=True)

        for name in ("shop.recieve_orders", "receive_orders"):
            with pytest.raises(OperationError) as caught:
                operations.pause(name, by="ana")
            assert str(caught.value) == (
                f"cannot pause {name!r}: expected the name of a receiver, got: one that neither "
                "this process nor the ledger knows. Did you mean 'shop.receive_orders'?"
            )
        assert pausing.paused() == frozenset()

    def test_a_plain_receiver(self, ledger, connect) -> None:
        """What has no ledger to wait in cannot be paused, and the message says the cure."""

        def receive(**kwargs) -> None: ...

        connect(done, receive, name="shop.receive_plainly")

        with pytest.raises(OperationError) as caught:
            operations.pause("shop.receive_plainly", by="ana")
        assert str(caught.value) == (
            "cannot pause shop.receive_plainly: expected a robust receiver, whose deliveries can "
            "wait in the ledger, got: a plain one. Give it robust=True, or stop the workers of its "
            "queue."
        )

    def test_both_or_neither(self, ledger, add, monkeypatch) -> None:
        """Without its record nothing is paused or resumed."""
        add()

        def fail(operation, using) -> None:
            raise RuntimeError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr("async_signals.operations.pausing.begin", fail)
            with pytest.raises(RuntimeError):
                operations.pause("shop.receive", by="ana")
        assert not Pause.objects.using(ledger).exists()

        operations.pause("shop.receive", by="ana")
        with monkeypatch.context() as patch:
            patch.setattr("async_signals.operations.pausing.begin", fail)
            with pytest.raises(RuntimeError):
                operations.resume("shop.receive", by="ana")
        assert Pause.objects.using(ledger).get().by == "ana"
        assert Operation.objects.using(ledger).get().verb == "pause"

    def test_a_reason_that_no_database_takes(self, ledger, add) -> None:
        """NUL and lone surrogates are left out of what is kept."""
        add()

        operations.pause("shop.receive", by="ana", reason="caf\udce9\x00")
        assert Pause.objects.using(ledger).get().reason == "caf"
        operations.resume("shop.receive", by="ana", reason="\x00well")

        reasons = Operation.objects.using(ledger).order_by("started_at")
        assert [each.reason for each in reasons] == ["caf", "well"]
