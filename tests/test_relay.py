"""The relay goes on, whatever goes wrong, and one kind of work does not stop the others."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
import uuid

import pytest
from django.db import OperationalError
from django.db.models import F
from django.dispatch import Signal
from django.utils import timezone
from kombu import Queue

from async_signals import operations, registry, relay
from async_signals.ids import new_id
from async_signals.ledger import claims, due, pace, pruning, spool
from async_signals.models import Claim, Delivery, Event
from async_signals.publisher import shared_out
from async_signals.signals import delivery_retrying
from async_signals.wire.envelope import Reference, dump
from tests.conftest import require
from tests.testproject import brokers

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def place(settings, tmp_path):
    """An empty spool."""
    settings.ASYNC_SIGNALS = {"SPOOL": str(tmp_path), "RELAY_INTERVAL": 0.01}
    return tmp_path


@pytest.fixture
def published(monkeypatch):
    """What the relay publishes: nothing leaves this process."""
    messages = []

    def publish(batch):
        messages.extend(batch)
        return []

    monkeypatch.setattr(relay, "publish", publish)
    return messages


@pytest.fixture
def waiting(connect, ledger):
    """A robust receiver, and how to make a delivery for it that is due."""
    name = f"tests.relay.{new_id()}"

    def receive(**kwargs): ...

    connect(done, receive, name=name, robust=True)

    def make(**fields):
        now = timezone.now()
        event = Event.objects.using(ledger).create(id=new_id(), sent_at=now)
        given = {"state": "pending", "due_at": LONG_AGO, "sent_at": now} | fields
        given = {"receiver": name} | given
        return Delivery.objects.using(ledger).create(id=new_id(), event=event, **given)

    return make


def raiser(exc):
    def fail(*args, **kwargs):
        raise exc

    return fail


class Clock:
    """The relay's own clock, which a test moves."""

    def __init__(self, monkeypatch) -> None:
        self.ahead = 0.0
        here = time.monotonic
        monkeypatch.setattr(relay.time, "monotonic", lambda: here() + self.ahead)

    def pass_by(self, seconds: float) -> None:
        self.ahead += seconds


def test_no_error_ends_a_relay(published, waiting, ledger, monkeypatch, caplog) -> None:
    """Also one that nobody has thought of: told once with its traceback, tried again later."""
    waiting()
    one = relay.Relay()
    monkeypatch.setattr(relay, "aliases", lambda: [ledger])
    clock = Clock(monkeypatch)
    with monkeypatch.context() as patch:
        error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
        tries = []
        patch.setattr(due, "take_due", lambda *args, **kwargs: tries.append(1) or raiser(error)())
        for number, wait in enumerate((1, 2, 4), start=1):
            assert not one.tick()
            clock.pass_by(wait - 0.5)
            assert not one.tick()
            assert len(tries) == number, "it was not left alone"
            clock.pass_by(0.5)
        patch.setattr(due, "take_due", raiser(LookupError("another")))
        one.tick()
    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [UnicodeDecodeError, LookupError]
    clock.pass_by(30)

    one.tick()

    assert len(published) == 1


def test_it_is_told_again_after_it_was_well(transactional_db, monkeypatch, caplog) -> None:
    """Each time that the ledger goes away has its line in the log."""
    monkeypatch.setattr(relay, "aliases", lambda: ["default"])
    one, clock = relay.Relay(), Clock(monkeypatch)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(due, "take_due", raiser(OperationalError("down")))
            one.tick()
            clock.pass_by(2)
            one.tick()
        clock.pass_by(30)
        one.tick()
    assert [each.levelno for each in caplog.records] == [logging.WARNING] * 2


def test_the_thread_lives(published, waiting, monkeypatch) -> None:
    """The loop of a worker's relay outlives an error."""
    failed, stop = threading.Event(), threading.Event()

    def fail(*args, **kwargs):
        if failed.is_set():
            stop.set()
        failed.set()
        raise RuntimeError

    monkeypatch.setattr(relay, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(relay, "take_dead_claims", fail)
    relay.run(stop)
    assert failed.is_set()


def test_a_thread_that_cannot_be_started_stops_nothing(
    published, waiting, ledger, monkeypatch, caplog
) -> None:
    """Where the system lets the process have no more, the first database is served all the same."""
    waiting()
    stop = threading.Event()

    def publish(messages):
        stop.set()
        return []

    monkeypatch.setattr(relay, "publish", publish)
    monkeypatch.setattr(relay, "elsewhere", lambda: ["other"])
    monkeypatch.setattr(
        relay.threading.Thread, "start", raiser(RuntimeError("can't start new thread"))
    )
    relay.run(stop)
    assert stop.is_set()
    assert caplog.text.count("start a thread for 'other'") == 1


@pytest.mark.parametrize("exc", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), OSError("x")])
def test_the_spool_stops_nothing(published, waiting, monkeypatch, caplog, exc) -> None:
    """Where it cannot be emptied, what is due is published all the same."""
    waiting()
    monkeypatch.setattr(spool, "drain", raiser(exc))
    one = relay.Relay()

    assert [one.tick() for _ in range(3)] == [False] * 3

    assert len(published) == 1
    assert len([each for each in caplog.messages if "empty the spool" in each]) == 1


def test_a_bad_file_stops_nothing(published, waiting, place) -> None:
    """A file that nobody can read, or that is no file, is put aside."""
    waiting()
    (place / "0.json").write_bytes(b"\xff\xfe\x00")
    (place / "1.json").mkdir()

    relay.Relay().tick()

    assert sorted(path.name for path in place.iterdir()) == ["0.bad", "1.bad"]
    assert len(published) == 1


def test_a_death_is_told_where_what_follows_fails(connect, sent, ledger, monkeypatch) -> None:
    """It is committed, and will not be found again: it is announced before anything else."""
    told = []

    def hear(delivery, **kwargs):
        told.append(delivery.id)

    connect(done, lambda **kwargs: None, name=f"tests.relay.{new_id()}", robust=True)
    done.send(None, number=1)
    claims.claim(sent[0], dump(sent[0]), worker="w")
    Claim.objects.using(ledger).update(expires_at=LONG_AGO)
    monkeypatch.setattr(due, "take_due", raiser(OperationalError("down")))
    delivery_retrying.connect(hear)
    try:
        relay.Relay().tick()
    finally:
        delivery_retrying.disconnect(hear)

    assert told == [sent[0].id]


def test_pruning_lets_others_through(published, waiting, ledger, monkeypatch) -> None:
    """A backlog of what is over goes a few batches at a time, and goes on at the next tick."""
    monkeypatch.setattr(pruning, "CHUNK", 1)
    monkeypatch.setattr(relay, "PRUNE_BATCHES", 2)
    for _ in range(3):
        waiting(state="succeeded", due_at=None, sent_at=LONG_AGO, finished_at=LONG_AGO)
    Claim.objects.using(ledger).bulk_create(
        Claim(id=uuid.uuid4(), receiver="x", done=True, expires_at=LONG_AGO, started_at=LONG_AGO)
        for _ in range(2)
    )

    def left():
        models = (
            Delivery.objects.using(ledger).filter(state="succeeded"),
            Claim.objects.using(ledger),
        )
        return sum(rows.count() for rows in models)

    one = relay.Relay()
    one._next_prune = 0
    seen = []
    for _ in range(4):
        waiting()
        busy = one.tick()
        seen.append((busy, left(), len(published)))

    assert seen == [(True, 3, 1), (True, 1, 2), (False, 0, 3), (False, 0, 4)]


def test_pruning_that_fails_begins_anew(transactional_db, monkeypatch, caplog) -> None:
    """An error in it ends it for now; the next time comes."""
    one = relay.Relay()
    clock = Clock(monkeypatch)
    one._next_prune = 0
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "prune_deliveries", raiser(OperationalError("down")))
        assert not one.tick()
    assert one._pruning == {}
    one._next_prune = 0
    clock.pass_by(1)
    caplog.clear()
    assert not one.tick()
    assert not caplog.records


@pytest.mark.parametrize("is_known", [True, False])
def test_no_delivery_runs_for_ever(published, waiting, ledger, is_known) -> None:
    """Its worker has died: also where its receiver is paused, or nobody knows it any more."""
    running = waiting(state="running", epoch=1, **({} if is_known else {"receiver": "shop.gone"}))
    if is_known:
        operations.pause(running.receiver, by="ana")

    relay.Relay().tick()

    running.refresh_from_db(using=ledger)
    assert (running.state, running.deaths, published) == ("pending", 1, [])


class TestRefused:
    """RabbitMQ refuses what goes to a queue that it knows otherwise, and takes all else."""

    @pytest.fixture
    def broker(self, settings, place):
        require("rabbitmq")
        with brokers.rabbitmq_broker(name="refusing").in_use() as broker:
            settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "CELERY_APP": broker.app_path}
            yield broker

    @pytest.fixture
    def poison(self, broker):
        """Name of a queue that takes nothing."""
        name = f"{broker.queue}-poison"
        with broker.app.connection_for_write() as connection:
            Queue(name, queue_arguments={"x-max-length": 7}, channel=connection).declare()
            yield name
            Queue(name, channel=connection).delete()

    def test_the_receivers_beside_it_do_not_wait(
        self, poison, waiting, connect, ledger, monkeypatch
    ) -> None:
        """It is tried again after a while, and for no moment does the relay stand still."""

        def poisoned(**kwargs): ...

        monkeypatch.setattr(relay, "FIRST_WAIT", 60.0)  # However slow this machine is.
        monkeypatch.setattr(relay, "LONGEST_WAIT", 600.0)
        name = f"tests.relay.{new_id()}"
        connect(done, poisoned, name=name, robust=True, queue=poison)
        waiting(receiver=name)
        one, clock = relay.Relay(), Clock(monkeypatch)
        rows = Delivery.objects.using(ledger)

        for number in range(1, 4):
            one.tick()
            refused = rows.get(receiver=name)
            assert (refused.state, one.published) == ("pending", number - 1)
            waiting()
            one.tick()
            assert one.published == number
            assert one.pause < 1
            rows.filter(receiver=name).update(due_at=LONG_AGO)
            one.tick()
            refused.refresh_from_db()
            assert refused.due_at == LONG_AGO, "it was not left alone"
            clock.pass_by(60 * 2 ** (number - 1))


class TestBacklog:
    """A backlog is taken in larger batches, and travels in fewer messages."""

    @pytest.fixture
    def backlog(self, waiting, ledger):
        def make(count, **fields):
            first = waiting(**fields)
            made = {"event_id": first.event_id, "receiver": first.receiver, "state": first.state}
            made |= {"due_at": first.due_at, "sent_at": first.sent_at, "epoch": first.epoch}
            made |= {"replay_of": first.replay_of}
            Delivery.objects.using(ledger).bulk_create(
                Delivery(id=new_id(), **made) for _ in range(count - 1)
            )
            return first.receiver

        return make

    @pytest.fixture
    def throttled(self, ledger, monkeypatch, settings):
        """Batches of ten, of which five may be retries."""
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        monkeypatch.setattr(relay, "BATCH", 10)
        monkeypatch.setattr(relay, "LARGEST_BATCH", 10)
        monkeypatch.setattr(due, "exhausted", lambda using: [])  # Tokens come back that fast.
        settings.ASYNC_SIGNALS |= {"RETRY_RATE": 5}

    def test_batches_grow_while_there_is_more(
        self, published, backlog, monkeypatch, ledger
    ) -> None:
        """Small at first, so that several relays share; then twice as much each time."""
        monkeypatch.setattr(relay, "BATCH", 10)
        monkeypatch.setattr(relay, "LARGEST_BATCH", 40)
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        backlog(121)
        one = relay.Relay()
        sizes = []
        for _ in range(6):
            before = one.published
            one.tick()
            sizes.append(one.published - before)

        assert sizes == [10, 10, 20, 40, 40, 1]
        assert one._batch == 10

    def test_many_share_messages(self, published, backlog, ledger, monkeypatch) -> None:
        """All are published, in no fewer messages than many workers can run at once."""
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        backlog(500)
        relay.run(threading.Event(), once=True)

        ids = [each.id for message in published for each in message.deliveries]
        assert len({*ids}) == len(ids) == 500
        assert 50 <= len(published) < 500
        assert max(len(message.deliveries) for message in published) <= 20

    def test_few_travel_alone(self, published, backlog, ledger, monkeypatch) -> None:
        """Where there are no more than a hundred, nobody waits behind another."""
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        backlog(100)
        relay.run(threading.Event(), once=True)

        assert [len(message.deliveries) for message in published] == [1] * 100

    def test_what_was_run_before_travels_alone(
        self, published, backlog, ledger, monkeypatch, settings
    ) -> None:
        """It may be what kills workers."""
        settings.ASYNC_SIGNALS |= {"RETRY_RATE": 1000}
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        monkeypatch.setattr(relay, "BATCH", 500)
        backlog(300, epoch=1)
        relay.run(threading.Event(), once=True)

        assert [len(message.deliveries) for message in published] == [1] * 300

    @pytest.mark.parametrize("state", ["pending", "published"])
    def test_retries_that_have_to_wait_let_others_through(
        self, published, waiting, backlog, connect, ledger, throttled, state
    ) -> None:
        """However many there are, of several receivers; and the relay rests when that is done."""
        names = [f"tests.relay.{new_id()}" for _ in range(2)]
        receivers = [lambda **kwargs: None for _ in names]
        for name, receive in zip(names, receivers, strict=True):
            connect(done, receive, name=name, robust=True)
        second, third = (LONG_AGO + dt.timedelta(seconds=seconds) for seconds in (1, 2))
        backlog(50, epoch=1, state=state)
        backlog(50, epoch=1, state=state, receiver=names[0], due_at=second)
        waiting(epoch=1, receiver=names[1], due_at=third)
        waiting(due_at=third)
        one = relay.Relay()

        assert [one.tick() for _ in range(3)] == [True, True, False]

        assert one.published == 5 + 5 + 2
        assert not Delivery.objects.using(ledger).filter(due_at=third).exists()

    def test_replays_come_back_no_faster_than_retries(
        self, published, waiting, backlog, ledger, throttled
    ) -> None:
        """Whoever replays thousands storms no server that is back, and holds up nobody else."""
        backlog(50, replay_of=waiting(state="succeeded", due_at=None))
        later = LONG_AGO + dt.timedelta(seconds=1)
        waiting(due_at=later)
        one = relay.Relay()

        assert [one.tick() for _ in range(2)] == [True, False]

        assert one.published == 5 + 1
        assert not Delivery.objects.using(ledger).filter(due_at=later).exists()

    @pytest.mark.parametrize("option", ["time_limit", "soft_time_limit", "rate_limit"])
    def test_limits_are_for_one_delivery(self, connect, option) -> None:
        """Celery counts messages: those receivers get each delivery alone."""
        name = f"tests.relay.{new_id()}"
        connect(done, lambda **kwargs: None, name=name, durable=True, **{option: 10})
        references = [
            Reference(id=new_id(), receiver=name, epoch=0, using="default") for _ in range(500)
        ]

        assert len(shared_out(registry.get(name), references)) == 500


class TestRateLimit:
    """What waits because its receiver has a rate limit is not taken for lost."""

    #: Seconds between two runs.
    EVERY = 6

    @pytest.fixture
    def site(self, published, connect, ledger, monkeypatch):
        """A site whose one worker keeps to the rate, and whose clocks a test moves."""
        monkeypatch.setattr(relay, "aliases", lambda: [ledger])
        return Site(published, connect, ledger)

    @pytest.mark.parametrize(("number", "line"), [(5, 100), (60, 100), (60, 10)])
    def test_a_backlog_is_not_published_again(self, site, number, line, monkeypatch) -> None:
        """It takes as long as its rate says, however long its line, and leaves few copies."""
        monkeypatch.setattr(pace, "LONGEST_LINE", line)
        site.receive(rate_limit="10/m")
        site.send(number)

        seconds = site.run(every=self.EVERY)

        assert seconds == number * self.EVERY
        assert len(site.broker) <= number / 10

    def test_a_slow_rate_is_no_reason(self, site) -> None:
        """Also where the first one waits for longer than the first minutes."""
        site.receive(rate_limit="4/h")
        site.send(4)

        assert site.run(every=900, step=60) == 4 * 900
        assert site.broker == []

    def test_a_steady_stream_is_not_published_again(self, site) -> None:
        """Events that come as fast as they run, behind a backlog."""
        site.receive(rate_limit="10/m")
        for behind in (12, 25):  # All in the minute after the first one, and some later.
            site.send(behind - len(site.broker))
            copies = site.copies
            for _ in range(30):
                site.send(1)
                site.run(every=self.EVERY, most=self.EVERY)
            assert site.copies - copies <= 2

    def test_what_was_lost_comes_back_at_the_rate(self, site) -> None:
        """The broker has lost everything: all of it runs, as fast as the rate lets it."""
        site.receive(rate_limit="10/m")
        site.send(30)
        site.broker.clear()

        seconds = site.run(every=self.EVERY)

        assert seconds <= 30 * self.EVERY + 3 * due.REPUBLISH
        assert site.broker == []

    def test_one_that_was_lost_comes_back_behind_the_others(self, site) -> None:
        """One of many: it is published again when it should have run, and no other one is."""
        site.receive(rate_limit="10/m")
        site.send(30)
        del site.broker[20]

        seconds = site.run(every=self.EVERY)

        assert seconds <= 30 * self.EVERY + 2 * due.REPUBLISH
        assert site.copies <= 1 + 3

    def test_a_worker_that_was_away_finds_few_copies(self, site) -> None:
        """An hour without a worker: only the first in the line was published again."""
        site.receive(rate_limit="10/m")
        site.send(30)

        site.run(every=0, step=60, most=3600)

        assert len(site.broker) <= 30 + 7  # A minute, doubling to an hour.
        assert site.run(every=self.EVERY) == 30 * self.EVERY

    def test_without_a_limit_a_minute_is_enough(self, site) -> None:
        """All that nobody has claimed is published again, as ever."""
        site.receive()
        site.send(30)

        site.run(every=0, step=2 * due.REPUBLISH, most=2 * due.REPUBLISH)

        assert site.copies == 30

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("task_default_rate_limit", "10/m"),
            ("task_annotations", {"*": {"rate_limit": "10/m"}}),
        ],
    )
    def test_celerys_settings_are_limits_too(self, site, settings, setting, value) -> None:
        """A limit that is not the receiver's own."""
        with site.app(settings, **{setting: value}):
            site.receive()
            site.send(30)
            assert site.run(every=self.EVERY) == 30 * self.EVERY
            assert len(site.broker) <= 3

    @pytest.mark.parametrize(
        ("rate_limit", "conf"),
        [(0, {}), ("0/m", {}), ("10/m", {"worker_disable_rate_limits": True})],
    )
    def test_no_limit(self, site, settings, rate_limit, conf) -> None:
        """Nothing a minute means no limit to Celery, and its settings may turn them all off."""
        with site.app(settings, **conf):
            site.receive(rate_limit=rate_limit)
            site.send(30)
            site.run(every=0, step=2 * due.REPUBLISH, most=2 * due.REPUBLISH)
            assert site.copies == 30


class Site:
    """A receiver, what the broker has for it, and a worker that takes one message at a time."""

    def __init__(self, published, connect, ledger) -> None:
        self.broker = []  #: Ids, in the order in which they run.
        self.copies = 0  #: What was published again.
        self._published, self._connect, self._ledger = published, connect, ledger
        self._rows = Delivery.objects.using(ledger)
        self._relay = relay.Relay()
        self._sent = 0

    @contextlib.contextmanager
    def app(self, settings, **conf):
        """Let the site have a Celery app of its own, with these settings."""
        with brokers.redis_broker(name="rates").in_use() as broker:
            broker.app.conf.update(conf)
            settings.ASYNC_SIGNALS |= {"CELERY_APP": broker.app_path}
            yield

    def receive(self, **options) -> None:
        self.name = f"tests.relay.{new_id()}"
        self._receiver = lambda **kwargs: None
        self._connect(done, self._receiver, name=self.name, durable=True, **options)

    def send(self, number) -> None:
        """Events that their sender has published."""
        now = timezone.now()
        events = [Event(id=new_id(), sent_at=now) for _ in range(number)]
        Event.objects.using(self._ledger).bulk_create(events)
        made = [
            Delivery(
                id=event.id,
                event=event,
                receiver=self.name,
                state="published",
                sent_at=now + dt.timedelta(microseconds=place),
                published_at=now,
                publishes=1,
                due_at=now + dt.timedelta(seconds=due.REPUBLISH),
            )
            for place, event in enumerate(events)
        ]
        self._rows.bulk_create(made)
        self.broker += [each.id for each in made]

    def run(self, *, every, step=None, most=100_000) -> int:
        """Let time pass until all have run; return how many seconds that was."""
        step = step or every
        for seconds in range(step, most + 1, step):
            if every and seconds % every == 0 and self.broker:
                self._rows.filter(pk=self.broker.pop(0)).update(state="succeeded", due_at=None)
            back = dt.timedelta(seconds=step)
            self._rows.update(
                due_at=F("due_at") - back,
                published_at=F("published_at") - back,
                sent_at=F("sent_at") - back,
            )
            while self._relay.tick():
                pass
            again = [
                uuid.UUID(each.id) for message in self._published for each in message.deliveries
            ]
            self._published.clear()
            self.broker += again
            self.copies += len(again)
            if not self._rows.filter(due_at__isnull=False).exists():
                return seconds
        return most


def test_it_looks_when_the_next_one_is_due(
    published, waiting, ledger, settings, monkeypatch
) -> None:
    """Not only after its interval: a retry starts when it is to start."""
    settings.ASYNC_SIGNALS |= {"RELAY_INTERVAL": 500}
    monkeypatch.setattr(relay, "aliases", lambda: [ledger])
    one = relay.Relay()
    one.tick()
    assert 400 <= one.pause <= 600
    waiting(due_at=timezone.now() + dt.timedelta(seconds=50))
    waiting(due_at=timezone.now() + dt.timedelta(seconds=200))

    one.tick()

    assert 20 < one.pause <= 60
    assert published == []
