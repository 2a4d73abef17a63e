"""Messages that come twice, too early, or from someone who is not us; and what cannot be sent."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid

import kombu
import pytest
import redis
from django.db.models import F
from django.utils import timezone

from async_signals import operations, stats, testing
from async_signals.ledger.clock import Now
from async_signals.models import Claim, Delivery
from async_signals.wire.envelope import pack
from async_signals.wire.signing import sign
from tests.testapp.models import Sent
from tests.testproject.services import port_of

from .oracle import USING, Run, captured, wait_until
from .rig import reference
from .scale import DURABLE, in_modes, scaled

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(scaled(180, 3600)),
]


HOUR = dt.timedelta(hours=1)


def later() -> dt.datetime:
    return timezone.now() + HOUR


class TestDuplicates:
    @in_modes("robust", "once")
    def test_the_same_bytes_twice_and_a_hundred_times(self, rig, kind, mode) -> None:
        """Through two workers: one run each, and never two at once."""
        rig.use(kind)
        first, second = rig.worker(), rig.worker()
        run = Run(f"15 duplicates, {kind}", mode)
        twice = [captured(run, n) for n in range(scaled(20, 5_000))]
        often = [captured(run, 100_000 + n, orders=["wait:0.2"]) for n in range(scaled(2, 50))]
        rig.publish_again(twice, 2)
        rig.publish_again(often, 100)

        run.wait_until_delivered(scaled(60, 900))
        wait_until(lambda: rig.messages() == 0, what="the end of the queue")
        last = Run("15 the last one", mode)
        last.send(range(20))
        last.wait_until_delivered()
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        assert len(run.written("start")) == tally.committed
        for worker in (first, second):
            assert worker.output.count(" received") > 20, "all went to one worker"

    @in_modes("robust", "durable")
    def test_redelivered_while_it_runs(self, rig, mode, gates, ledger) -> None:
        """Redis gives it to another process after two seconds, while the receiver takes longer."""
        rig.use(
            "redis", visibility_timeout=2, unacked_restore_interval=1, unacked_restore_throttle=1
        )
        workers = [rig.worker()]
        run = Run("16 visibility timeout", mode)
        # Before kombu 5.7 a worker looks for it at its start, and then after 100 s.
        looks_often = kombu.VERSION >= (5, 7)
        envelope = captured(run, 0, orders=[f"hold:{gates[0].name}"])
        rig.publish_again([envelope], 1)
        if not looks_often:
            wait_until(lambda: run.written("start"), what="the start of it")
            begun = run.written("start")[0]["at"]
            wait_until(lambda: time.monotonic() > begun + 2, what="its age")
            workers.append(rig.worker())

        def received() -> int:
            return sum(each.output.count(f"[{envelope.id}] received") for each in workers)

        wait_until(lambda: received() > 1, what="its redelivery")
        gates[0].unlink()
        run.wait_until_delivered()
        claims = Claim.objects.using(ledger).filter(done=True)
        rows = Delivery.objects.using(ledger).filter(state="succeeded")
        wait_until(lambda: claims.exists() or rows.exists(), what="its record")
        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        assert len(run.written("start")) == 1


class TestCountdown:
    @pytest.mark.parametrize("mode", ["late", "durable_late"])
    def test_what_is_for_later_waits_in_the_ledger(self, rig, mode, ledger) -> None:
        """Longer than the interval of a relay: no message until it is due."""
        broker = rig.use("redis")
        run, beside = Run("17 a countdown", mode), Run("17 beside a countdown", "durable")
        count = scaled(10, 200)
        run.send(range(count))
        waiting = Delivery.objects.using(ledger).filter(state="pending")
        # However slow this machine is, none is due until this is undone.
        assert waiting.update(due_at=F("due_at") + HOUR) == count
        client = redis.Redis(port=port_of("redis"), db=9)
        unacked = f"{broker.transport_options['global_keyprefix']}unacked"
        assert rig.messages() == 0
        rig.worker()
        for number in range(4):  # Each is published by the relay alone, which has looked then.
            due = captured(beside, number)
            Delivery.objects.using(ledger).filter(pk=due.id).update(due_at=Now())
            wait_until(lambda number=number: number in beside.delivered, what="a look of the relay")
        wait_until(lambda: rig.messages() + client.hlen(unacked) == 0, what="the queue's end")
        client.close()
        assert waiting.count() == count
        assert run.begun == set()
        waiting.update(due_at=F("due_at") - HOUR)
        run.wait_until_delivered()

        tally = run.tally()
        assert (tally.lost, tally.twice) == (0, 0)
        assert min(entry["at"] for entry in run.written("start")) >= run.started + 3


class TestHostile:
    def test_none_stops_the_worker(self, rig, ledger) -> None:
        """Each is logged once, none is run, and what is known of a delivery is recorded."""
        rig.use("redis")
        worker = rig.worker()
        run = Run("21 hostile messages", "robust")
        receiver = "tests.testapp.effects.robust"

        def envelope(**changes):
            with testing.capture() as sent:
                run.signal.send(sender=None, run=run.id, number=1, using=USING)
            return sent[0]._replace(**changes)

        def with_number(value: str) -> str:
            kwargs = {"run": run.id, "number": "?"}
            return pack([envelope(kwargs=kwargs)]).partition(":")[2].replace('"?"', value)

        future = json.loads(pack([envelope()]).partition(":")[2]) | {"v": 99}
        newer = envelope(payload_version=2)
        tagged = envelope(kwargs={"run": run.id, "number": {"$": "shop.money", "v": 1}})
        gone = envelope(
            kwargs={"run": run.id, "number": {"$": "class", "v": ["path", "tests.nowhere:Gone"]}}
        )
        messages = {
            "cannot read envelope version 99": sign(json.dumps(future)),
            "expected a payload of version 1 or older, got: version 2": pack([newer]),
            "cannot decode a value of type 'shop.money'": pack([tagged]),
            "expected 'tests.nowhere:Gone' in a module": pack([gone]),
            "cannot trust the message": pack([envelope()])[:-10],
            "cannot trust the message: ": f"forged{pack([envelope()])}",
            "for this receiver, got: one for": pack([envelope(receiver="shop.another")]),
            "JSON that raises RecursionError": sign(with_number("[" * 10_000 + "]" * 10_000)),
            "JSON that raises JSONDecodeError": sign("{"),
            "expected a signed text, got: int": 7,
        }
        for expected, wire in messages.items():
            before = worker.position
            rig.broker.app.send_task(
                receiver,
                (wire,),
                task_id=str(uuid.uuid4()),
                headers={"async_signals": "robust"},
                ignore_result=True,
            )
            worker.wait_for_line(expected.strip(), after=before)
        run.send([7])
        run.wait_until_delivered()

        assert worker.is_alive
        assert run.delivered == {7}
        assert run.tally().twice == 0
        recorded = {str(row.pk): row.state for row in Delivery.objects.using(ledger).all()}
        for each in (newer, tagged, gone):
            assert recorded[each.id] in {"pending", "failed", "running", "published"}
        failed = Delivery.objects.using(ledger).filter(message__contains="version 99")
        assert failed.get().state == "failed"

    @in_modes("durable", of=DURABLE)
    def test_what_points_nowhere_is_not_run(self, rig, mode, ledger) -> None:
        """A durable delivery travels as a reference: forged, outdated, ahead, of no row."""
        rig.use("redis")
        worker = rig.worker()
        run = Run("21 hostile references", mode)
        envelope = captured(run, 0)
        other = Run("21 a reference to another's row", "limited_once")
        another = captured(other, 0)
        rows = Delivery.objects.using(ledger)
        rows.update(due_at=later())  # No relay is to be faster.
        hostile = {
            "cannot trust the message": pack([reference(envelope)])[:-10],
            "cannot trust the message: ": f"forged{pack([reference(envelope)])}",
            "for this receiver, got: one for": pack([reference(another)]),
            "'nowhere'": pack([reference(envelope, using="nowhere")]),
        }
        for expected, wire in hostile.items():
            before = worker.position
            rig.publish_stored(envelope, wire)
            worker.wait_for_line(expected.strip(), after=before)
        for changes in ({"epoch": -1}, {"epoch": 99}, {"id": str(uuid.uuid4())}, {"id": "none"}):
            before = worker.position
            rig.publish_stored(envelope, pack([reference(envelope, **changes)]))
            worker.wait_for_line(f"[{envelope.id}] ", after=before)
        assert run.begun == set()
        untouched = rows.get(receiver=envelope.receiver)
        assert (untouched.state, untouched.epoch) == ("published", 0)
        other.wait_until_delivered()  # By its own task.
        assert other.tally().twice == 0

        run.send([1])
        rig.publish_again([envelope], 1)
        run.wait_until_delivered()
        assert worker.is_alive
        tally = run.tally()
        assert (tally.committed, tally.lost, tally.twice) == (2, 0, 0)

    @in_modes("durable", of=DURABLE)
    def test_a_row_that_nobody_can_read(self, rig, mode, ledger) -> None:
        """Written by a release to come: recorded as failed, to be retried after a deploy."""
        rig.use("redis")
        worker = rig.worker()
        run = Run("21 an unreadable row", mode)
        envelope = captured(run, 0)
        row = Delivery.objects.using(ledger).get()
        readable = row.envelope
        told = json.loads(readable) | {"v": 99}
        Delivery.objects.using(ledger).update(envelope=json.dumps(told), due_at=later())
        rig.publish_again([envelope], 1)
        failed = Delivery.objects.using(ledger).filter(state="failed")
        wait_until(failed.exists, what="its failure")
        assert "version 99" in failed.get().message

        failed.update(envelope=readable)
        operations.retry(stats.Filter(state="failed"), by="test")
        run.wait_until_delivered()
        assert worker.is_alive
        assert run.tally().lost == 0


class Silent:
    """Says nothing about itself."""

    def __repr__(self) -> str:
        raise LookupError("no words")


class TestUnsendable:
    @in_modes("robust", "durable")
    @pytest.mark.parametrize("value", [object(), Silent(), lambda: None], ids=type)
    def test_recorded_where_the_sender_is_not_told(self, rig, mode, value, ledger) -> None:
        """A value that cannot travel: nothing is raised, and a person finds it in the ledger."""
        rig.use("redis")
        run = Run("22 an unserialisable kwarg", mode)
        responses = run.signal.send(sender=None, run=run.id, number=1, value=value, using=USING)

        assert [response for _, response in responses] == [None]
        row = Delivery.objects.using(ledger).get()
        assert (row.state, row.envelope) == ("failed", "")
        assert row.exception == "async_signals.exceptions.SerializationError"
        assert "'value'" in row.message

    @in_modes("robust", "durable")
    def test_a_row_that_is_gone(self, rig, mode, ledger) -> None:
        """Deleted between send and run: recorded with its key."""
        rig.use("redis")
        run = Run("22 a deleted row", mode)
        row = Sent.objects.using(USING).create(run=run.id, number=0)
        run.signal.send(sender=None, run=run.id, number=1, instance=row, using=USING)
        key = row.pk
        row.delete()
        rig.worker()

        failed = wait_until(lambda: Delivery.objects.using(ledger).filter(state="failed").first())
        assert failed.exception == "async_signals.exceptions.MissingInstanceError"
        assert f"testapp.sent with pk {key}" in failed.message
        assert run.written("start") == []
        assert failed.attempt_set.using(ledger).get().outcome == "refused"
