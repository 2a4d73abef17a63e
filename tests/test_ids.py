"""Ids sort by the time of their making."""

from __future__ import annotations

import time
import uuid

from async_signals import ids


def test_it_is_a_uuid_of_version_7() -> None:
    """Its first 48 bits are the milliseconds since 1970."""
    found = uuid.UUID(ids.new_id())

    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert abs((found.int >> 80) / 1000 - time.time()) < 5


def test_they_sort_in_the_order_of_their_making() -> None:
    """Also within a millisecond, and none comes twice."""
    made = [ids.new_id() for _ in range(20_000)]

    assert made == sorted(made)
    assert len({*made}) == len(made)


def test_a_clock_that_is_set_back(monkeypatch) -> None:
    """By a moment: the order holds; by more: the new time does."""
    now = time.time_ns()
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    first = ids.new_id()
    monkeypatch.setattr(time, "time_ns", lambda: now - 1_000_000)
    assert ids.new_id() > first
    monkeypatch.setattr(time, "time_ns", lambda: now - 60_000_000_000)
    assert ids.new_id() < first
