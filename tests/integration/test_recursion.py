"""Receivers that cause themselves, in a real worker: it has no stack that would overflow."""

from __future__ import annotations

import uuid

import pytest

from async_signals.models import Delivery
from tests.faults.waiting import wait_until
from tests.testapp.models import Echo

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("worker", "publishing"),
]


def depths(reports, **expected) -> list[int]:
    """The runs there were, and that there is no other."""
    got = [report["depth"] for report in reports.wait(5, **expected)]
    with pytest.raises(AssertionError, match="expected 1 reports"):
        reports.wait(timeout=1, **expected)
    return sorted(got)


def test_a_plain_receiver_is_stopped(worker, reports) -> None:
    """Five runs; the task of the fifth fails where it would save again, with the chain."""
    name, before = f"p{uuid.uuid4().hex}", worker.position
    Echo.objects.create(name=name)

    assert depths(reports, receiver="plain_echo", name=name) == [0, 1, 2, 3, 4]
    # By its chain: the line of the robust one may come after its row, so after the test of it.
    chain = " -> ".join(["tests.testapp.receivers.plain_echo"] * 6)
    assert "RecursionLimitError" in worker.wait_for_line(chain, after=before)


def test_a_robust_receiver_is_stopped(reports) -> None:
    """Five runs that succeed, and a failed delivery that says why there is no sixth."""
    name, receiver = f"r{uuid.uuid4().hex}", "tests.testapp.receivers.robust_echo"
    Echo.objects.create(name=name)

    assert depths(reports, receiver="robust_echo", name=name) == [0, 1, 2, 3, 4]
    [delivery] = wait_until(lambda: list(Delivery.objects.select_related("event")), what="its row")
    assert (delivery.receiver, delivery.state) == (receiver, "failed")
    assert " -> ".join([receiver] * 6) in delivery.message
    assert delivery.event.cause is not None
