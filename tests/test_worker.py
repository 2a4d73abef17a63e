"""What a worker's main process does to the messages that come to it."""

from __future__ import annotations

import types

import pytest
from celery import signals

from async_signals.publisher import HEADER, LIMITED

NONE = {"time_limit": None, "soft_time_limit": None}


class Consumer(types.SimpleNamespace):
    """Celery's, as far as a handler of ``task_received`` looks at it."""

    __hash__ = object.__hash__


def receive(*, kind="stored", message=(None, None), task=None, worker=None, rate=None) -> bool:
    """Let a worker receive a message; return whether a limit was found to hold for it."""
    request = types.SimpleNamespace(
        request_dict={HEADER: kind} if kind else {},
        time_limits=message,
        task=types.SimpleNamespace(name="shop.tasks.pay", **NONE | (task or {})),
    )
    consumer = Consumer(
        controller=types.SimpleNamespace(**NONE | (worker or {})),
        task_buckets={"shop.tasks.pay": rate},
    )
    for _, raised in signals.task_received.send(sender=consumer, request=request):
        assert not isinstance(raised, Exception)
    return LIMITED in request.request_dict


class TestLimits:
    @pytest.mark.parametrize(
        "limits",
        [
            {"message": [60, None]},
            {"message": [None, 60]},
            {"task": {"time_limit": 60}},
            {"task": {"soft_time_limit": 60}},
            {"worker": {"time_limit": 60}},
            {"worker": {"soft_time_limit": 60}},
            {"rate": "a bucket"},
        ],
        ids=str,
    )
    def test_wherever_one_was_set(self, limits) -> None:
        """By the sender, by ``celery control``, on the command line: it is for one delivery."""
        assert receive(**limits)

    @pytest.mark.parametrize("kind", ["stored", "plain", None])
    def test_without_one(self, kind) -> None:
        """Such messages are as they came."""
        assert not receive(kind=kind)

    @pytest.mark.parametrize("kind", ["plain", "robust", None])
    def test_what_is_alone_anyhow(self, kind) -> None:
        """What travels whole does so alone, and tasks of the site are its own affair."""
        assert not receive(kind=kind, worker={"time_limit": 60})
