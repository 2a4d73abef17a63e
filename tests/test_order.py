"""``order_by``: deliveries of one key run one after the other, in the order of their rows."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from async_signals import PermanentFailure, Retry, operations, registry, relay, robust
from async_signals.ids import new_id
from async_signals.ledger import turns
from async_signals.models import Delivery, Turn
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference, load, pack, unpack

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()


@pytest.fixture
def receiver(connect, alias, monkeypatch):
    """Connect a receiver with an order; what it is called with fails as it is told to."""
    published = []
    monkeypatch.setattr(
        "async_signals.publisher.publish",
        lambda messages: published.extend(messages) or [],
    )
    monkeypatch.setattr(
        "async_signals.relay.publish", lambda messages: published.extend(messages) or []
    )

    def make(**options):
        def receive(n, **kwargs):
            receive.calls.append(n)
            if n in receive.failing:
                raise PermanentFailure("as told")
            if n in receive.retried:
                receive.retried.remove(n)
                raise OSError("as told, once")

        receive.calls, receive.failing, receive.retried = [], set(), set()
        receive.published, receive.alias = published, alias
        receive.receiver_name = name = f"tests.order.{new_id()}"
        given = {"durable": True, "order_by": "key", "retry": Retry(initial_delay=0)}
        connect(done, receive, name=name, **(given | options))
        return receive

    return make


@pytest.fixture
def receive(receiver):
    return receiver()


def send(alias, *numbers, key="a") -> None:
    with transaction.atomic(using=alias):
        for n in numbers:
            done.send(None, using=alias, n=n, key=key)


def rows(alias) -> dict[int, Delivery]:
    found = Delivery.objects.using(alias).order_by("pk")
    return {load(row.envelope).kwargs["n"]: row for row in turns.with_holder(found)}


def states(alias) -> list[str]:
    return [row.state for row in rows(alias).values()]


def references(receive) -> list[int]:
    """Return the numbers of what has been published since the last time."""
    by_id = {str(row.pk): n for n, row in rows(receive.alias).items()}
    told = [by_id[each.id] for message in receive.published for each in message.deliveries]
    receive.published.clear()
    return told


def run(receive, n, *, follow=True) -> str:
    """Let a worker have the message of number *n*, as it was published."""
    row = rows(receive.alias)[n]
    reference = Reference(
        id=str(row.pk),
        receiver=receive.receiver_name,
        epoch=row.epoch,
        using=receive.alias,
        ordered=True,
    )
    [result] = robust.run(pack([reference]), name=receive.receiver_name, worker="w@test/1")
    if follow and result.next_of is not None:
        relay.follow(*result.next_of)
    return result.state


def relay_once(alias, *, everything=False) -> None:
    if everything:
        live = Delivery.objects.using(alias).filter(state__in=["pending", "published"])
        live.update(due_at=Now())
    relay.run(threading.Event(), once=True)


def test_only_the_first_of_a_key_is_published(receive, alias) -> None:
    """The others of the transaction, and of later ones, wait in the ledger."""
    send(alias, 1, 2, 3)
    send(alias, 4)
    send(alias, 5, key="b")

    assert references(receive) == [1, 5]
    assert states(alias) == ["published", "pending", "pending", "pending", "published"]
    found = rows(alias)
    assert [found[n].held_by for n in (1, 2, 4, 5)] == [None, found[1].pk, found[1].pk, None]


def test_each_success_lets_the_next_one_leave(receive, alias) -> None:
    """One after the other, without a look of the relay in between."""
    send(alias, 1, 2, 3)
    order = references(receive)
    while order:
        assert run(receive, order.pop()) == "succeeded"
        order = references(receive)

    assert receive.calls == [1, 2, 3]
    assert not Turn.objects.using(alias).exists()


def test_a_message_that_comes_too_early_is_given_back(receive, alias) -> None:
    """Who is published although it is not its turn is not run; it runs when it is."""
    send(alias, 1, 2)
    assert run(receive, 2) == "skipped"
    assert receive.calls == []
    assert rows(alias)[2].epoch == 0

    assert run(receive, 1) == "succeeded"
    assert references(receive) == [1, 2]
    assert run(receive, 2) == "succeeded"


def test_retries_hold_back_those_behind(receive, alias) -> None:
    """What waits for its next attempt is still the first."""
    receive.retried = {1}
    send(alias, 1, 2)
    assert run(receive, 1) == "retrying"
    references(receive)

    relay_once(alias, everything=True)
    assert references(receive) == [1]
    assert run(receive, 1) == "succeeded"
    assert references(receive) == [2]


def test_a_wait_for_the_next_attempt_is_not_cut_short(receiver, alias) -> None:
    """An earlier one, of a transaction that took longer, comes first; the pause still holds."""
    receive = receiver(retry=Retry(initial_delay=500, jitter="none"))
    send(alias, 1, 2)
    first = Turn.objects.using(alias).order_by("pk").first()
    Turn.objects.using(alias).filter(pk=first.pk).update(key="not committed yet")
    receive.retried = {2}
    assert run(receive, 2) == "retrying"
    due_at = rows(alias)[2].due_at
    other = Turn.objects.using(alias).order_by("pk").last()
    Turn.objects.using(alias).filter(pk=first.pk).update(key=other.key)
    references(receive)

    assert run(receive, 1) == "succeeded"
    assert (references(receive), rows(alias)[2].due_at) == ([], due_at)


def test_a_failure_holds(receive, alias) -> None:
    """Until a person retries it, with success."""
    receive.failing = {1}
    send(alias, 1, 2)
    assert run(receive, 1) == "failed"
    references(receive)
    relay_once(alias, everything=True)
    assert references(receive) == []
    found = rows(alias)
    assert (found[2].state, found[2].held_by) == ("pending", found[1].pk)

    receive.failing = set()
    operations.retry(Filter(ids=(str(found[1].pk),)), by="test", using=alias)
    relay_once(alias)
    assert references(receive) == [1]
    assert run(receive, 1) == "succeeded"
    assert references(receive) == [2]


def test_a_discarded_one_lets_the_next_pass(receive, alias) -> None:
    """Of several behind it, the first."""
    receive.failing = {1}
    send(alias, 1, 2, 3)
    run(receive, 1)
    relay_once(alias, everything=True)
    references(receive)
    operations.discard(
        Filter(ids=(str(rows(alias)[1].pk),)), by="test", reason="wrong", using=alias
    )

    relay_once(alias)
    assert references(receive) == [2]


def test_a_failure_lets_pass_where_it_shall(receiver, alias) -> None:
    """after_failure="pass": the next one follows at once."""
    receive = receiver(after_failure="pass")
    receive.failing = {1}
    send(alias, 1, 2)
    references(receive)

    assert run(receive, 1) == "failed"
    assert references(receive) == [2]
    assert run(receive, 2) == "succeeded"


def test_a_later_release_lets_pass(receiver, alias, monkeypatch) -> None:
    """What a failure holds is let go by a relay whose receiver says after_failure="pass"."""
    receive = receiver()
    receive.failing = {1}
    send(alias, 1, 2, 3)
    run(receive, 1)
    relay_once(alias, everything=True)
    references(receive)
    options = registry.get(receive.receiver_name).options
    passing = dataclasses.replace(options, after_failure="pass")
    monkeypatch.setattr(registry.get(receive.receiver_name), "options", passing)

    relay_once(alias, everything=True)
    relay_once(alias)
    assert references(receive) == [2]
    assert states(alias) == ["failed", "published", "pending"]


@pytest.mark.parametrize("policy", ["hold", "pass"])
def test_three_deaths(receiver, alias, settings, policy) -> None:
    """A quarantined one holds as one that has failed."""
    settings.ASYNC_SIGNALS = {"MAX_DEATHS": 1}
    receive = receiver(after_failure=policy)
    send(alias, 1, 2)
    references(receive)
    Delivery.objects.using(alias).filter(pk=rows(alias)[1].pk).update(
        state="running", epoch=1, due_at=Now()
    )
    Turn.objects.using(alias).filter(delivery=rows(alias)[1].pk).update(running="x")
    relay_once(alias)
    relay_once(alias)

    assert states(alias)[0] == "failed"
    assert references(receive) == ([2] if policy == "pass" else [])
    assert not Turn.objects.using(alias).filter(running__isnull=False).exists()


def test_effect_once(receiver, alias) -> None:
    """The turn ends with the transaction of the receiver."""
    receive = receiver(effect="once")
    receive.retried = {1}
    send(alias, 1, 2)
    assert run(receive, 1) == "retrying"
    relay_once(alias, everything=True)
    references(receive)

    assert run(receive, 1) == "succeeded"
    assert references(receive) == [2]


def test_a_countdown_holds_those_behind(receiver, alias) -> None:
    """It is waited for in its turn, and not cut short by those before."""
    receive = receiver(countdown=30)
    send(alias, 1, 2)
    assert references(receive) == []
    assert run(receive, 1) == "succeeded"
    assert references(receive) == []

    relay_once(alias, everything=True)
    assert references(receive) == [2]


def test_a_paused_receiver_waits(receive, alias, monkeypatch) -> None:
    """Nothing follows on a delivery that ended after the pause began; it does after the pause."""
    send(alias, 1, 2)
    references(receive)
    with monkeypatch.context() as pausing:
        pausing.setattr(relay, "paused", lambda: {receive.receiver_name})
        assert run(receive, 1) == "succeeded"
        assert references(receive) == []

    relay_once(alias)
    assert references(receive) == [2]


def test_a_replay_has_no_order(receive, alias) -> None:
    """It is asked for now, and runs now."""
    receive.failing = {1}
    send(alias, 0, 1, 2)
    run(receive, 0)
    run(receive, 1)
    first = rows(alias)[0]
    operations.replay(Filter(ids=(str(first.pk),)), by="test", using=alias)

    again = Delivery.objects.using(alias).get(replay_of=first)
    assert not Turn.objects.using(alias).filter(delivery=again).exists()


def test_a_sender_that_dies_leaves_the_order(receive, alias, lost) -> None:
    """The relay publishes the first of each key only, and puts the others aside."""
    send(alias, 1, 2, 3)
    send(alias, 4, key="b")
    relay_once(alias, everything=True)

    assert references(receive) == [1, 4]
    found = rows(alias)
    assert (found[3].due_at - found[1].due_at).total_seconds() > -30
    assert found[3].state == "pending"


def test_a_worker_that_dies_after_a_success_leaves_the_next_one_due(receive, alias) -> None:
    """The end of a turn is one transaction: nobody has to be alive afterwards."""
    send(alias, 1, 2)
    relay_once(alias, everything=True)  # The second one is put aside for a minute.
    references(receive)
    assert run(receive, 1, follow=False) == "succeeded"

    relay_once(alias)
    assert references(receive) == [2]


def test_of_one_key_the_database_lets_one_run(receive, alias) -> None:
    """An earlier one that comes to light while a later one runs waits for its end."""
    send(alias, 1, 2)
    first = Turn.objects.using(alias).order_by("pk").first()
    key = first.key
    Turn.objects.using(alias).filter(pk=first.pk).update(key="not committed yet")
    during = []

    def look(n) -> None:
        if n == 2:
            Turn.objects.using(alias).filter(pk=first.pk).update(key=key)
            during.append(run(receive, 1))

    receive.calls = type("Calls", (list,), {"append": lambda self, n: look(n)})()
    assert run(receive, 2) == "succeeded"
    assert during == ["skipped"]
    assert references(receive)[-1] == 1


def test_two_claims_at_the_same_moment(receive, alias) -> None:
    """Neither sees the other, as where the first is committed late: the database lets one run."""
    if alias == "default":
        pytest.skip("SQLite has one writer at a time")
    send(alias, 1, 2)
    first, second = Turn.objects.using(alias).order_by("pk")
    key = first.key
    taken, waits, refused = threading.Event(), threading.Event(), []

    def take_second() -> None:
        """It is alone in the snapshot of its transaction, and begins to run."""
        with transaction.atomic(using=alias):
            turns.take(str(second.delivery_id), alias)
            taken.set()
            waits.wait(10)
        connections[alias].close()

    def take_first() -> None:
        try:
            with transaction.atomic(using=alias):
                waits.set()
                turns.take(str(first.delivery_id), alias)
        except turns.HeldError:
            refused.append(first.pk)
        finally:
            connections[alias].close()

    Turn.objects.using(alias).filter(pk=first.pk).update(key="not committed yet")
    one, other = threading.Thread(target=take_second), threading.Thread(target=take_first)
    one.start()
    assert taken.wait(10)
    Turn.objects.using(alias).filter(pk=first.pk).update(key=key)
    other.start()
    one.join(30)
    other.join(30)

    assert refused == [first.pk]
    running = Turn.objects.using(alias).exclude(running=None).values_list("pk", flat=True)
    assert list(running) == [second.pk]


def test_queries_use_indexes(receive, alias) -> None:
    """With 10,000 that wait, half of them for one key, nothing reads them all."""
    if alias == "default":
        pytest.skip("SQLite's planner has no figures to show")
    send(alias, 1)
    row = Delivery.objects.using(alias).get()
    event, text = row.event_id, row.envelope
    made = [
        Delivery(id=new_id(), event_id=event, receiver=row.receiver, sent_at=row.sent_at,
                 state="pending", due_at=row.sent_at, envelope=text)
        for _ in range(10_000)
    ]  # fmt: skip
    Delivery.objects.using(alias).bulk_create(made, batch_size=1_000)
    key = Turn.objects.using(alias).get().key
    Turn.objects.using(alias).bulk_create(
        (
            Turn(key=key if number % 2 else f"{number}", delivery_id=each.id)
            for number, each in enumerate(made)
        ),
        batch_size=1_000,
    )
    some = [each.id for each in made[:100]]
    with connections[alias].cursor() as cursor:
        for model in (Delivery, Turn):
            verb = "VACUUM ANALYZE" if alias == "postgresql" else "ANALYZE TABLE"
            cursor.execute(f"{verb} {model._meta.db_table}")
    with CaptureQueriesContext(connections[alias]) as queries:
        turns.held(some, alias)
        turns.next_of(key, alias)
        list(turns.with_holder(Delivery.objects.using(alias)).filter(pk__in=some[:50]))
        with transaction.atomic(using=alias):
            turns.end([row.pk], alias)
    plans = []
    for query in queries.captured_queries:
        if "WHERE" not in query["sql"] and query["sql"].endswith("LIMIT 1"):
            continue  # Whether there is any turn at all.
        if query["sql"].split()[0] in ("SELECT", "UPDATE", "DELETE"):
            with connections[alias].cursor() as cursor:
                cursor.execute("EXPLAIN " + query["sql"].replace("%", "%%"))
                plans += [(line, query["sql"]) for line in cursor.fetchall()]
    assert len(plans) > 5
    whole = [plan for plan in plans if "Seq Scan" in str(plan[0]) or "ALL" in plan[0]]
    assert whole == []


def test_a_send_and_an_end_that_do_not_see_each_other(receive, alias) -> None:
    """The one before ends while the next is sent, not committed yet: the sender publishes it."""
    if alias == "default":
        pytest.skip("SQLite has one writer at a time")
    send(alias, 1)
    references(receive)
    sent, ended = threading.Event(), threading.Event()

    def send_slowly() -> None:
        with transaction.atomic(using=alias):
            done.send(None, using=alias, n=2, key="a")
            sent.set()
            ended.wait(10)
        connections[alias].close()

    slow = threading.Thread(target=send_slowly)
    slow.start()
    assert sent.wait(10)
    assert run(receive, 1) == "succeeded"
    assert references(receive) == []
    ended.set()
    slow.join(30)

    assert references(receive) == [2]


class TestKeys:
    def key(self, alias) -> str | None:
        turn = Turn.objects.using(alias).order_by("pk").last()
        return turn and turn.key

    def test_equal_values_are_one_key(self, receiver, alias) -> None:
        """By value, of each receiver for itself."""
        receiver(order_by="key")
        for value, again in ((1, 1), ((1, "a"), (1, "a")), ({"b", "a"}, {"a", "b"})):
            send(alias, 1, key=value)
            first = self.key(alias)
            send(alias, 1, key=again)
            assert self.key(alias) == first
            send(alias, 1, key="other")
            assert self.key(alias) != first

    def test_a_function_and_none(self, receiver, alias) -> None:
        """A function of what the signal carries; None has no order."""
        receive = receiver(order_by=lambda sender, n, **kwargs: None if n < 0 else n % 2)
        send(alias, 1, 2, 3, -1, -2)
        assert references(receive) == [1, 2, -1, -2]

    def test_a_path(self, receiver, alias) -> None:
        """Attributes of arguments, and items of dicts."""
        receive = receiver(order_by="key.place.real")
        send(alias, 1, key={"place": 5})
        send(alias, 2, key={"place": 5})
        assert references(receive) == [1]

    def test_nothing_at_the_path(self, receiver, alias) -> None:
        """The sender hears nothing of it; a failed delivery tells."""
        receiver(order_by="key.place")
        send(alias, 1)
        row = Delivery.objects.using(alias).get()
        assert row.state == "failed"
        assert "'place'" in row.reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"order_by": "key"}, "expected durable=True"),
        ({"order_by": "key", "robust": True}, "expected durable=True"),
        ({"order_by": "a b", "durable": True}, "path of an attribute"),
        ({"order_by": 1, "durable": True}, "path of an attribute"),
        ({"after_failure": "pass", "durable": True}, "expected order_by"),
    ],
)
def test_refused_at_registration(connect, options, told) -> None:
    """With the cure."""
    with pytest.raises(TypeError, match=told):
        connect(done, lambda **kwargs: None, name=f"tests.order.{new_id()}", **options)


def test_an_unknown_policy(connect) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="after_failure='stop'"):
        connect(
            done,
            lambda **kwargs: None,
            name=f"tests.order.{new_id()}",
            durable=True,
            order_by="n",
            after_failure="stop",
        )


def test_the_wire(envelope) -> None:
    """Only a reference with a turn says so."""
    given = [
        Reference(id="a", receiver="r", epoch=0, using="default", ordered=is_ordered)
        for is_ordered in (True, False)
    ]
    assert unpack(pack(given)) == given
