"""The doctor before a real broker and a real worker."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from django.core.management import call_command
from django.dispatch import Signal

from tests.faults.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

happened = Signal()


def diagnosis() -> dict[str, list[dict]]:
    out = io.StringIO()
    with contextlib.suppress(SystemExit):  # This process has receivers of other tests.
        call_command("async_signals", "doctor", "--json", stdout=out)
    found: dict[str, list[dict]] = {}
    for finding in json.loads(out.getvalue())["findings"]:
        found.setdefault(finding["about"], []).append(finding)
    return found


def test_a_worker_that_lacks_a_receiver(publishing, worker, connect) -> None:
    """Workers answer, know the receivers of their release, and the one that they lack is named."""

    def receive(**kwargs) -> None: ...

    connect(happened, receive, name="shop.added_after_the_worker_began")

    def answered() -> dict[str, list[dict]] | None:
        """The doctor gives workers a second to answer, and a busy one may need several."""
        told = diagnosis()
        texts = [each["text"] for each in told.get("workers", ())]
        return told if any(publishing.queue in text for text in texts) else None

    found = wait_until(answered, what="an answer of the worker")
    assert [each["level"] for each in found["broker"] + found["workers"]] == ["ok", "ok"]
    lacking = [each["text"] for each in found["registered"]]
    assert "shop.added_after_the_worker_began is unknown to every worker" in lacking
    assert not [text for text in lacking if text.startswith("tests.testapp.receivers.limited")]
