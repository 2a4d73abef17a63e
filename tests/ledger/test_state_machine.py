"""Any order of messages, workers, crashes, stalls, relays and people leaves each delivery whole."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import os

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Q
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from async_signals import operations, registry, stats
from async_signals.ids import new_id
from async_signals.ledger import bundles, claims, due, pausing, records
from async_signals.ledger.clock import Now
from async_signals.ledger.deaths import take_dead_claims
from async_signals.ledger.failures import failure_of
from async_signals.ledger.masking import mask_for
from async_signals.ledger.outgoing import Outgoing, insert_outgoing
from async_signals.models import Attempt, Claim, Delivery, State
from async_signals.wire.envelope import Envelope, Reference, bundled, dump
from tests.faults.mutants import ENVIRONMENT, mutated

USING = "default"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FINAL = {State.SUCCEEDED, State.FAILED, State.DISCARDED}
RELAYS = st.integers(0, 1)
WORKERS = st.integers(0, 1)
#: Which of several there are.
ANY = st.integers(0, 7)


@dataclasses.dataclass
class Known:
    """What must be true of one delivery."""

    holder: claims.Run | None = None  #: Whose result counts.
    lasts: bool = False  #: The lease of the holder is not over.
    state: State | None = None  #: The final one, once it has come to it.
    #: A robust delivery that nobody has claimed: all there is of it are messages.
    travels: bool = False
    is_unpacked: bool = False  #: A bundle whose deliveries have taken its place.


class Deliveries(RuleBasedStateMachine):
    """Two workers, two relays, a broker, people, and the real ledger."""

    receiver = ""  #: Its name.

    def __init__(self):
        super().__init__()
        self.block = transaction.atomic(using=USING)
        self.block.__enter__()
        self.known: dict[str, Known] = {}
        self.broker: list[Envelope | Reference] = []
        self.workers: list[list[claims.Run]] = [[], []]  #: Each may stall over some of its own.
        self.batches: list[list[Reference]] = [[], []]  #: Taken by a relay, and not published.
        self.is_paused = False

    def teardown(self):
        try:
            self.bring_all_to_an_end()
        finally:
            transaction.set_rollback(True, using=USING)
            self.block.__exit__(None, None, None)
            pausing.forget()

    # What is sent.

    def _envelope(self) -> Envelope:
        return Envelope(
            id=new_id(),
            event_id=new_id(),
            receiver=self.receiver,
            signal=None,
            sent=dt.datetime.now(dt.UTC).isoformat(),
            sender=None,
            kwargs={},
        )

    @rule()
    def send_robust(self):
        envelope = self._envelope()
        self.known[envelope.id] = Known(travels=True)
        self.broker.append(envelope)

    @rule(is_leaving=st.booleans(), lives=st.booleans())
    def send_durable(self, is_leaving, lives):
        """Its row says that it is published, whether or not its sender has lived to do so."""
        envelope = self._envelope()
        row = Outgoing(envelope=envelope, text=dump(envelope), wait=60, is_leaving=is_leaving)
        insert_outgoing([row], USING)
        self.known[envelope.id] = Known()
        if is_leaving and lives:
            self.broker.append(
                Reference(id=envelope.id, receiver=self.receiver, epoch=0, using=USING)
            )

    @rule(size=st.integers(2, 3), lives=st.booleans())
    def send_many(self, size, lives):
        """One row stands for all of them; they are known when it is unpacked."""
        texts = [dump(self._envelope()) for _ in range(size)]
        bundle, text = self._envelope(), bundled(texts)
        row = Outgoing(envelope=bundle, text=text, wait=60, is_leaving=True, size=size)
        insert_outgoing([row], USING)
        self.known[bundle.id] = Known()
        if lives:
            self.broker.append(
                Reference(id=bundle.id, receiver=self.receiver, epoch=0, using=USING)
            )

    # What becomes of messages.

    @precondition(lambda self: self.broker)
    @rule(n=ANY)
    def duplicate(self, n):
        self.broker.append(self.broker[n % len(self.broker)])

    @precondition(lambda self: any(isinstance(each, Reference) for each in self.broker))
    @rule()
    def forget_what_is_stored(self):
        self.broker = [each for each in self.broker if isinstance(each, Envelope)]

    @precondition(lambda self: self.broker)
    @rule(worker=WORKERS, n=ANY)
    def deliver(self, worker, n):
        message = self.broker.pop(n % len(self.broker))
        known = self.known[message.id]
        if self.is_paused:
            if isinstance(message, Envelope):
                records.stored([message], using=USING)
                known.travels = False
            else:
                due.give_back([message.id], USING, wait=5)
            return
        if isinstance(message, Envelope):
            run = claims.claim(message, dump(message), worker=str(worker))
        else:
            run = claims.claim_stored(message, worker=str(worker))
        if run is None:
            return
        assert not known.is_unpacked, "it is there twice"
        assert known.state is None, f"{known.state} was left"
        assert known.holder is None, "two have claimed it"
        known.holder, known.lasts, known.travels = run, True, False
        self.workers[worker].append(run)

    # What workers do.

    def _take_run(self, worker, n):
        return self.workers[worker].pop(n % len(self.workers[worker]))

    def _end(self, run, held, state):
        known = self.known[run.envelope.id]
        assert bool(held) == (known.holder is run), "whose result counts?"
        if held:
            known.holder, known.state = None, state

    @precondition(lambda self: any(self.workers))
    @rule(worker=WORKERS, n=ANY)
    def succeed(self, worker, n):
        if self.workers[worker]:
            run = self._take_run(worker, n)
            if run.bundled:
                self._unpack(run, lives=bool(n % 2))
            else:
                self._end(run, records.succeeded(run, 0.1), State.SUCCEEDED)

    def _unpack(self, run, *, lives):
        """A worker puts the deliveries in the place of their bundle, and may die right after."""
        ready = bundles.unpacked(run)
        if ready is not None:
            self.known[run.envelope.id].is_unpacked = True
            self.known |= {each.id: Known() for each in run.bundled}
            if lives:
                self.broker += [each.reference for each in ready]
        self._end(run, ready is not None, None)

    @precondition(lambda self: any(self.workers))
    @rule(worker=WORKERS, n=ANY, is_final=st.booleans())
    def fail(self, worker, n, is_final):
        if not self.workers[worker]:
            return
        run, mask = self._take_run(worker, n), mask_for((), None, None)
        failure = failure_of(OSError("no"), mask)
        wait = None if is_final else 0.0
        held = records.failed(run, failure, mask, wait=wait, duration=0.1)
        self._end(run, held, State.FAILED if is_final else None)

    @precondition(lambda self: any(self.workers))
    @rule(worker=WORKERS, n=ANY)
    def give_up(self, worker, n):
        if self.workers[worker]:
            run = self._take_run(worker, n)
            self._end(run, records.discarded(run, "too late"), State.DISCARDED)

    @precondition(lambda self: any(self.workers))
    @rule(worker=WORKERS, n=ANY)
    def crash(self, worker, n):
        if self.workers[worker]:
            self._take_run(worker, n)

    @precondition(lambda self: any(self.workers))
    @rule(worker=WORKERS, n=ANY)
    def renew(self, worker, n):
        if self.workers[worker]:
            run = self.workers[worker][n % len(self.workers[worker])]
            known = self.known[run.envelope.id]
            held = claims.renew(run)
            assert held == (known.holder is run)
            known.lasts |= held

    @precondition(lambda self: any(self.workers))
    @rule(
        worker=WORKERS,
        n=ANY,
        relay=RELAYS,
        returns=st.sampled_from(["later", "with success", "with failure"]),
    )
    def stall(self, worker, n, relay, returns):
        """A worker sleeps until its delivery has been given to the other one, and comes back."""
        if not self.workers[worker]:
            return
        run = self.workers[worker][n % len(self.workers[worker])]
        if self.known[run.envelope.id].holder is not run:
            return
        self._end_lease(run.envelope.id)
        self.take(relay)  # Its death.
        self.take(relay)
        self.publish(relay)
        mine = [n for n, each in enumerate(self.broker) if each.id == run.envelope.id]
        if mine:
            self.deliver(1 - worker, mine[-1])
        if returns != "later":
            place = self.workers[worker].index(run)
            is_well = returns == "with success"
            self.succeed(worker, place) if is_well else self.fail(worker, place, is_final=True)

    def _end_lease(self, key):
        Delivery.objects.using(USING).filter(pk=key, state=State.RUNNING).update(due_at=LONG_AGO)
        Claim.objects.using(USING).filter(pk=key, done=False).update(expires_at=LONG_AGO)
        self.known[key].lasts = False

    # What relays do.

    @rule(relay=RELAYS)
    def take(self, relay):
        deaths = take_dead_claims(USING, limit=100)
        receivers = registry.known(without=[self.receiver] if self.is_paused else ())
        ready, died, _ = due.take_due(USING, receivers=receivers, limit=100)
        for death in [*deaths, *died]:
            known = self.known[death.delivery.id]
            assert not known.lasts, "it was taken from a worker that lives"
            known.holder, known.state = None, State.FAILED if death.is_final else None
        for each in ready:
            known = self.known[each.reference.id]
            assert known.state is None
            assert known.holder is None
        self.batches[relay] += [each.reference for each in ready]

    @rule(relay=RELAYS)
    def publish(self, relay):
        self.broker += self.batches[relay]
        self.batches[relay] = []

    @rule(relay=RELAYS)
    def crash_relay(self, relay):
        self.batches[relay] = []

    @rule(relay=RELAYS)
    def refuse(self, relay):
        due.give_back([each.id for each in self.batches[relay]], USING, wait=1)
        self.batches[relay] = []

    @rule()
    def let_time_pass(self):
        """What waits is due; the leases of those who renew them go on."""
        waiting = Delivery.objects.using(USING).filter(state__in=(State.PENDING, State.PUBLISHED))
        waiting.update(due_at=LONG_AGO)
        running = {run.envelope.id for runs in self.workers for run in runs}
        for key, known in self.known.items():
            if known.holder is not None and key not in running:
                self._end_lease(key)

    # What people do.

    @rule()
    def retry_all_that_failed(self):
        operations.retry(stats.Filter(state="failed"), by="test")
        for known in self.known.values():
            if known.state == State.FAILED:
                known.state = None

    @precondition(lambda self: self.known)
    @rule(n=ANY)
    def discard(self, n):
        key = list(self.known)[n % len(self.known)]
        is_to_go = self._is_free(key, "failed", "pending")
        operations.discard(stats.Filter(ids=(key,)), by="test", reason="not wanted")
        if is_to_go:
            self.known[key].holder, self.known[key].state = None, State.DISCARDED

    @precondition(lambda self: self.known)
    @rule(n=ANY)
    def retry(self, n):
        key = list(self.known)[n % len(self.known)]
        is_to_go = self._is_free(key, "failed", "discarded")
        operations.retry(stats.Filter(ids=(key,)), by="test")
        if is_to_go:
            self.known[key].holder = self.known[key].state = None

    def _is_free(self, key, *states):
        """Whether it is in one of *states*, or on its way and nobody has come for it in time."""
        row = Delivery.objects.using(USING).filter(pk=key)
        late = Q(state__in=("published", "running"), due_at__lte=Now())
        return row.filter(Q(state__in=states) | late).exists()

    @rule()
    def pause_or_resume(self):
        (operations.resume if self.is_paused else operations.pause)(self.receiver, by="test")
        self.is_paused = not self.is_paused

    # What must hold at any time.

    @invariant()
    def none_is_lost_and_none_leaves_its_end(self):
        rows = {str(row.pk): row for row in Delivery.objects.using(USING).defer("envelope")}
        held = {str(pk): done for pk, done in Claim.objects.using(USING).values_list("pk", "done")}
        for key, known in self.known.items():
            row = rows.get(key)
            state = State(row.state) if row is not None else None
            if known.is_unpacked:
                assert row is None
            elif known.state is not None:
                # Who succeeds at once leaves a receipt only.
                assert state == known.state or (
                    state is None and held.get(key) is True and known.state == State.SUCCEEDED
                )
            elif row is not None:
                assert state not in FINAL
                assert row.due_at is not None, "nobody will look for it"
                assert (known.holder is not None) == (state == State.RUNNING)
            elif known.holder is not None:
                assert held[key] is False
            else:
                assert known.travels
                assert any(each.id == key for each in self.broker)

    def bring_all_to_an_end(self):
        """Whatever was done to it: workers and relays that are well bring each to its end."""
        if self.is_paused:
            self.pause_or_resume()
        for worker in (0, 1):
            self.workers[worker].clear()
            self.crash_relay(worker)
        for _ in range(20):
            if all(known.state is not None or known.is_unpacked for known in self.known.values()):
                break
            self.let_time_pass()
            self.take(0)
            self.publish(0)
            while self.broker:
                self.deliver(0, 0)
                while self.workers[0]:
                    self.succeed(0, 0)
        assert {known.state for known in self.known.values() if not known.is_unpacked} <= FINAL
        self.none_is_lost_and_none_leaves_its_end()
        attempts = collections.Counter(
            Attempt.objects.using(USING).filter(outcome="succeeded").values_list("delivery")
        )
        assert set(attempts.values()) <= {1}, "one has succeeded twice"


@pytest.mark.django_db(databases=[USING])
class TestDeliveries:
    @pytest.fixture(autouse=True)
    def place(self, connect, settings):
        """A receiver for them all, which is never called here."""
        from django.dispatch import Signal

        def receive(**kwargs): ...

        settings.ASYNC_SIGNALS = {"RETRY_RATE": 1_000_000}
        Deliveries.receiver = f"tests.ledger.{new_id()}"
        connect(Signal(), receive, name=Deliveries.receiver, robust=True)
        yield
        del receive

    def test_whatever_happens(self) -> None:
        """The profile "fidelity" tries many more: ``nox -s models``."""
        if ENVIRONMENT in os.environ:  # Nobody reads what is broken on purpose: not made shorter.
            walk(1_000, phases=[Phase.generate], print_blob=False)
        else:
            walk(examples())

    @pytest.mark.skipif(ENVIRONMENT in os.environ, reason="it is broken already")
    @pytest.mark.parametrize("name", ["no-fence", "no-claim"])
    def test_what_is_broken_is_noticed(self, name) -> None:
        """The model is not blind; a second record of one attempt the table refuses, too."""
        with mutated(name), pytest.raises((AssertionError, IntegrityError, ExceptionGroup)):
            walk(1_000, phases=[Phase.generate], print_blob=False)


def walk(max_examples: int, **options) -> None:
    run_state_machine_as_test(Deliveries, settings=settings(max_examples=max_examples, **options))


def examples() -> int:
    """Few in the fast profile, as each takes a fifth of a second."""
    most = settings.default.max_examples
    return most if most > 1_000 else 60
