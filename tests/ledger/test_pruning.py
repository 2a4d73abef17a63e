"""What is over is deleted in time; what failed is kept until a person has handled it."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from async_signals import operations, stats
from async_signals.models import (
    Claim,
    Delivery,
    Event,
    FailureGroup,
    Operation,
    OperationItem,
    State,
    UniqueEvent,
)
from async_signals.stats import Filter

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def old(add):
    """Put a delivery into the ledger that was over so many days ago."""

    def add_old(state, days, **fields):
        then = timezone.now() - dt.timedelta(days=days)
        return add(state, sent_at=then, finished_at=then, **fields)

    return add_old


def left(ledger) -> set:
    return set(Delivery.objects.using(ledger).values_list("pk", flat=True))


def test_each_state_has_its_time(old, ledger) -> None:
    """Successes go after a day, handled failures after 30, failed and live ones never."""
    gone = [
        old(State.SUCCEEDED, 2),
        old(State.SUCCEEDED, 31, fingerprint="f"),
        old(State.DISCARDED, 31),
    ]
    kept = [
        old(State.SUCCEEDED, 0.9),
        old(State.SUCCEEDED, 29, fingerprint="f"),  # It had failed before: it was handled.
        old(State.DISCARDED, 29),
        old(State.FAILED, 400),
        old(State.PENDING, 400),
    ]

    operation = operations.prune(by="relay", via="api")

    assert left(ledger) == {each.pk for each in kept}
    assert (operation.verb, operation.changed) == ("prune", len(gone))
    events = set(Event.objects.using(ledger).values_list("pk", flat=True))
    assert events == {each.event_id for each in kept}
    assert not {each.event_id for each in gone} & events


def test_older_than(old, ledger) -> None:
    """A time of one's own holds for all that is over; failed ones are kept even then."""
    old(State.SUCCEEDED, 0.5)
    old(State.DISCARDED, 0.5)
    kept = [old(State.FAILED, 0.5), old(State.SUCCEEDED, 0.1)]

    operations.prune(older_than=dt.timedelta(hours=6), by="ana")

    assert left(ledger) == {each.pk for each in kept}


def test_an_event_lives_as_long_as_one_of_its_deliveries(old, ledger) -> None:
    """Pruning one delivery leaves the event to the others, and replays to themselves."""
    first = old(State.SUCCEEDED, 2)
    replay = old(State.FAILED, 0, event=first.event, replay_of=None)
    Delivery.objects.using(ledger).filter(pk=replay.pk).update(replay_of=first.pk)

    operations.prune(by="ana")

    replay.refresh_from_db(using=ledger)
    assert replay.replay_of_id is None
    assert Event.objects.using(ledger).filter(pk=first.event_id).exists()


def test_receipts_and_records(old, add, ledger) -> None:
    """Receipts, unique events, old operations and groups without deliveries go too."""
    now = timezone.now()
    past, future = now - dt.timedelta(days=31), now + dt.timedelta(days=1)
    for done, expires_at in ((True, past), (True, future), (False, past)):
        Claim.objects.using(ledger).create(
            id=uuid.uuid4(), receiver="x", done=done, expires_at=expires_at, started_at=past
        )
    for key, expires_at in (("gone", past), ("kept", future)):
        UniqueEvent.objects.using(ledger).create(key=key, expires_at=expires_at)
        FailureGroup.objects.using(ledger).create(
            fingerprint=key, receiver="x", exception="x", first_at=past, last_at=past
        )
    add(fingerprint="kept")
    for started_at in (past, now):
        operation = Operation.objects.using(ledger).create(
            id=uuid.uuid4(), verb="retry", by="x", via="x", target="x", started_at=started_at
        )
        OperationItem.objects.using(ledger).create(
            operation=operation, delivery=uuid.uuid4(), changed=True, outcome="x"
        )

    operations.prune(by="ana")

    claims = Claim.objects.using(ledger).values_list("done", "expires_at")
    assert sorted(claims) == [(False, past), (True, future)]
    assert [each.key for each in UniqueEvent.objects.using(ledger).all()] == ["kept"]
    assert [each.fingerprint for each in FailureGroup.objects.using(ledger).all()] == ["kept"]
    verbs = Operation.objects.using(ledger).values_list("verb", flat=True)
    assert sorted(verbs) == ["prune", "retry"]
    assert OperationItem.objects.using(ledger).count() == 1


def test_the_audit_lives_as_long_as_its_deliveries(old, ledger, settings) -> None:
    """Who did what to a delivery is told while that is there, and goes after it."""
    row, other = old(State.FAILED, 400), old(State.FAILED, 400)
    ids = (str(row.pk), str(other.pk))
    operations.retry(Filter(ids=ids), by="ana", reason="ticket 4711")
    rows, audit = Delivery.objects.using(ledger), Operation.objects.using(ledger)
    past = timezone.now() - dt.timedelta(days=40)
    rows.update(state="failed", due_at=None, finished_at=past)
    audit.update(started_at=past, finished_at=past)

    operations.prune(by="relay")
    [item] = stats.show(row.pk).operations
    assert (item.operation.by, item.operation.reason) == ("ana", "ticket 4711")

    rows.filter(pk=row.pk).update(state="discarded")
    operations.prune(by="relay")
    assert len(stats.show(other.pk).operations) == 1

    rows.filter(pk=other.pk).update(state="discarded")
    operations.prune(by="relay")
    assert left(ledger) == set()
    assert not audit.filter(verb="retry").exists()
    assert not OperationItem.objects.using(ledger).exists()


def test_what_is_kept_hides_nothing_behind_it(old, ledger, monkeypatch) -> None:
    """However many operations are kept, those that are over are found among them."""
    monkeypatch.setattr("async_signals.ledger.pruning.CHUNK", 2)
    for state in (State.FAILED,) * 4 + (State.SUCCEEDED,) * 3 + (State.FAILED,):
        row = old(state, 400)
        operations.replay(Filter(ids=(str(row.pk),)), by="ana")
    past = timezone.now() - dt.timedelta(days=40)
    Operation.objects.using(ledger).update(started_at=past)

    operations.prune(by="relay")

    assert Operation.objects.using(ledger).filter(verb="replay").count() == 5


def test_batches_and_a_limit(old, ledger, monkeypatch) -> None:
    """It goes in small transactions, tells how far it is, and stops where it was told to."""
    monkeypatch.setattr("async_signals.ledger.pruning.CHUNK", 2)
    for _ in range(8):
        old(State.SUCCEEDED, 2)
    seen = []

    assert operations.prune(by="ana", limit=3).changed == 3
    operation = operations.prune(by="ana", progress=lambda done, total: seen.append(done))

    assert seen == [2, 4, 5]
    assert operation.changed == 5
    assert left(ledger) == set()


def test_nothing_to_do_leaves_no_record(ledger) -> None:
    """Pruning every minute does not fill the audit."""
    assert operations.prune(by="relay").changed == 0
    assert not Operation.objects.using(ledger).exists()


def test_what_is_brought_back_is_not_pruned(old, ledger) -> None:
    """A discarded delivery that somebody retries is live again."""
    row = old(State.DISCARDED, 31)
    operations.retry(Filter(ids=(str(row.pk),)), by="ana")

    operations.prune(by="ana")

    assert left(ledger) == {row.pk}


class StoppedError(Exception):
    """Somebody has pressed Ctrl-C, or the process was ended."""


def stop(done, total) -> None:
    raise StoppedError


def test_what_is_stopped_is_written_down(old, ledger, monkeypatch) -> None:
    """What has been deleted until then stands in the audit, as an operation that has no end."""
    monkeypatch.setattr("async_signals.ledger.pruning.CHUNK", 2)
    for _ in range(5):
        old(State.SUCCEEDED, 2)

    with pytest.raises(StoppedError):
        operations.prune(by="eve", reason="space", progress=stop)

    done = Operation.objects.using(ledger).get()
    assert len(left(ledger)) == 3
    assert (done.by, done.reason, done.changed, done.total) == ("eve", "space", 2, 2)
    assert done.finished_at is None


def test_without_an_audit_nothing_is_deleted(old, ledger, monkeypatch) -> None:
    """Where the record cannot be written, what it is about stays: deliveries and records."""
    old(State.SUCCEEDED, 2)
    past = timezone.now() - dt.timedelta(days=31)
    UniqueEvent.objects.using(ledger).create(key="gone", expires_at=past)
    monkeypatch.setattr("async_signals.operations.pruning.begin", stop_writing)

    with pytest.raises(StoppedError):
        operations.prune(by="eve")
    assert len(left(ledger)) == 1
    Delivery.objects.using(ledger).all().delete()
    with pytest.raises(StoppedError):
        operations.prune(by="eve")
    assert UniqueEvent.objects.using(ledger).exists()


def stop_writing(operation, using) -> None:
    raise StoppedError


def test_it_does_not_forget_itself(old, ledger, settings) -> None:
    """Where the audit is kept for no time at all, what is going on is still in it at the end."""
    settings.ASYNC_SIGNALS = {"KEEP_HANDLED": 1e-6}
    old(State.SUCCEEDED, 2)
    Operation.objects.using(ledger).create(
        id=uuid.uuid4(), verb="retry", by="x", via="x", target="x", started_at=timezone.now()
    )

    done = operations.prune(by="ana")

    assert done.target == "done for as long as is kept; 1 receipts and records"
    assert [each.pk for each in Operation.objects.using(ledger).all()] == [done.pk]


@pytest.mark.parametrize("reason", ["caf\udce9\x00", "\x00\udcff"])
def test_a_reason_that_no_database_takes(old, ledger, reason) -> None:
    """NUL and lone surrogates, as a terminal in another encoding sends them, are left out."""
    old(State.SUCCEEDED, 2)

    operations.prune(by="ana\x00", via="\udcffapi", reason=reason)

    done = Operation.objects.using(ledger).get()
    assert (done.by, done.via, done.reason) == ("ana", "api", reason[:3].strip("\x00\udcff"))
    assert left(ledger) == set()


def test_a_limit_takes_the_oldest(old, ledger) -> None:
    """Of all that is over, whatever its state, those that were sent first go first."""
    kept = [old(State.SUCCEEDED, 3), old(State.SUCCEEDED, 32, fingerprint="f")]
    old(State.DISCARDED, 34), old(State.SUCCEEDED, 33, fingerprint="f")

    assert operations.prune(by="ana", limit=2).changed == 2

    assert left(ledger) == {each.pk for each in kept}
