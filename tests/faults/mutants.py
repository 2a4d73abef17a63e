"""
Four ways to break the product, of which the tests are to notice each.

    python -m tests.faults.mutants

runs the named tests against each mutant, and against the product itself. A mutant is put in
where ``ASYNC_SIGNALS_TEST_MUTANT`` names it: in the tests, and in each process that they start.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MUTANTS", "mutated"]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "ASYNC_SIGNALS_TEST_MUTANT"

Patch = pytest.MonkeyPatch


def no_fence(patch: Patch) -> None:
    """Whoever comes back writes its result, also when the delivery is another's by now."""
    from async_signals.ledger import bundles, claims, records
    from async_signals.models import Delivery, State

    def held_row(run):
        return Delivery.objects.using(run.using).filter(pk=run.envelope.id, state=State.RUNNING)

    for module in (bundles, claims, records):
        patch.setattr(module, "held_row", held_row)


def no_claim(patch: Patch) -> None:
    """Whoever gets a message runs it."""
    from async_signals.ledger import claims
    from async_signals.models import Delivery, State

    def claim(envelope, text, *, worker, claimant=""):
        using = claims.alias()
        claims.insert_claim(
            envelope.id,
            receiver=envelope.receiver,
            worker=worker,
            process=claimant,
            envelope=text,
            connection=claims.connections[using],
        )
        return claims.Run(envelope=envelope, text=text, using=using, worker=worker)

    def claim_stored(reference, *, worker, claimant=""):
        rows = Delivery.objects.using(reference.using).filter(pk=reference.id)
        there = rows.update(
            state=State.RUNNING,
            epoch=claims.F("epoch") + 1,
            due_at=claims.lease_end(),
            started_at=claims.Now(),
            worker=worker,
        )
        return claims._run_of(reference) if there else None

    patch.setattr(claims, "claim", claim)
    patch.setattr(claims, "claim_stored", claim_stored)


def publish_before_commit(patch: Patch) -> None:
    """The message leaves when the signal is sent, whatever becomes of the transaction."""
    from django.db import transaction

    from async_signals.sending import dispatch

    class Impatient:
        def __getattr__(self, name):
            return getattr(transaction, name)

        def on_commit(self, callback, **options):
            callback()

    patch.setattr(dispatch, "transaction", Impatient())


def early_acknowledgement(patch: Patch) -> None:
    """The broker forgets a message as soon as a worker has it, and nothing is kept of its run."""
    import celery

    from async_signals import tasks

    real = celery.shared_task

    def shared_task(*args, **options):
        return real(*args, **(options | {"acks_late": False, "reject_on_worker_lost": False}))

    patch.setattr(tasks, "celery", types.SimpleNamespace(shared_task=shared_task))


#: Each mutant, with the tests of which one at least is to fail.
MUTANTS: dict[Callable[[Patch], None], tuple[str, ...]] = {
    no_fence: (
        "tests/ledger/test_state_machine.py::TestDeliveries::test_whatever_happens",
        "tests/faults/test_workers.py::TestStalled::test_past_its_lease_and_back[once]",
    ),
    no_claim: (
        "tests/faults/test_messages.py::TestDuplicates"
        "::test_the_same_bytes_twice_and_a_hundred_times[redis-robust]",
        "tests/ledger/test_state_machine.py::TestDeliveries::test_whatever_happens",
    ),
    publish_before_commit: (
        "tests/faults/test_senders.py::TestRolledBack::test_nothing_is_delivered[robust]",
    ),
    early_acknowledgement: (
        "tests/faults/test_database.py::TestDownInTheWorker::test_before_a_claim[redis-robust]",
    ),
}
NAMES = {mutant.__name__.replace("_", "-"): mutant for mutant in MUTANTS}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break the product in this process, inside the ``with`` block."""
    with Patch.context() as patch:
        NAMES[name](patch)
        yield


def stay_mutated() -> None:
    """Break the product as the environment says, until this process ends."""
    if name := os.environ.get(ENVIRONMENT):
        NAMES[name](Patch())


def told_by(test: str, mutant: str) -> tuple[bool, str]:
    """Return whether *test* passes, and what it has told of its run."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", test],
        cwd=ROOT,
        env={**os.environ, **({ENVIRONMENT: mutant} if mutant else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    # What could not even be set up is no verdict.
    if not re.search(r"^1 (passed|failed) in ", ended.stdout, re.MULTILINE):
        raise RuntimeError(f"cannot run {test}:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    figures = re.findall(r"\]: (committed .*), longest", ended.stdout)
    error = re.findall(r"^E +(?:\| +)?(\S*Error: .*)$", ended.stdout, re.MULTILINE)
    return ended.returncode == 0, [*figures, *error, ""][0][:110]


def main() -> int:
    """Print a table; return 1 where a mutant has survived, or a test fails by itself."""
    survived = 0
    print("| mutant | | test | figure |\n| --- | --- | --- | --- |", flush=True)
    for test in sorted({test for tests in MUTANTS.values() for test in tests}):
        passed, figure = told_by(test, "")
        survived += not passed
        print(f"| none | {'passes' if passed else 'FAILS'} | `{test}` | {figure} |", flush=True)
    for name, mutant in NAMES.items():
        killed = False
        for test in MUTANTS[mutant]:
            passed, figure = told_by(test, name)
            killed |= not passed
            told = "survives this one" if passed else "killed"
            print(f"| {name} | {told} | `{test}` | {figure} |", flush=True)
        survived += not killed
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
