"""When another attempt follows, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_signals import EnvelopeError, PermanentFailure, Retry, RetryAfter


@given(st.integers(1, 2_000), st.floats(0, 1e6), st.floats(0, 10), st.floats(0, 1e6))
def test_no_wait_is_longer_than_it_may_be(attempts, initial, factor, longest) -> None:
    """Full jitter: between 0 and the growing limit; without jitter: the limit."""
    policy = {"initial_delay": initial, "factor": factor, "max_delay": longest}

    wait = Retry(**policy).delay(attempts)
    limit = Retry(**policy, jitter="none").delay(attempts)

    assert 0 <= wait <= limit <= longest


def test_the_limit_doubles() -> None:
    """5, 10, 20 ... seconds, up to an hour."""
    policy = Retry(jitter="none")

    assert [policy.delay(n) for n in (1, 2, 3, 10, 11, 500)] == [5, 10, 20, 2560, 3600, 3600]


def test_full_jitter_spreads() -> None:
    """Of a hundred that failed together, no fifth comes back within one second of a minute."""
    waits = [Retry(initial_delay=60).delay(1) for _ in range(1000)]

    assert all(sum(s <= wait < s + 1 for wait in waits) < 200 for s in range(60))


@pytest.mark.parametrize(
    ("policy", "exc", "attempts", "age", "wait"),
    [
        ({}, OSError(), 1, 0, 5),
        ({}, OSError(), 8, 0, 640),
        ({}, OSError(), 9, 0, None),
        ({}, PermanentFailure(), 1, 0, None),
        ({}, RetryAfter(7), 1, 0, 7),
        ({}, RetryAfter(7), 9, 0, None),
        ({"on": (OSError,)}, KeyError(), 1, 0, None),
        ({"on": (OSError,)}, ConnectionError(), 1, 0, 5),
        ({"give_up_on": (ConnectionError,)}, ConnectionError(), 1, 0, None),
        ({"give_up_on": (SystemExit,)}, SystemExit(), 1, 0, None),
        ({}, SystemExit(), 1, 0, 5),
        ({"on": (OSError,)}, EnvelopeError(), 1, 0, 5),
        ({"deadline": 60}, OSError(), 1, 54, 5),
        ({"deadline": 60}, OSError(), 1, 56, None),
        ({"deadline": 60}, SystemExit(), 1, 56, None),
        ({"deadline": 60}, EnvelopeError(), 1, 56, None),
        ({}, RetryAfter(1e12), 1, 0, 366 * 86_400),
        ({"initial_delay": 1e12, "max_delay": 1e12}, OSError(), 1, 0, 366 * 86_400),
        ({}, ExceptionGroup("", [OSError(), KeyError()]), 1, 0, 5),
        ({}, ExceptionGroup("", [OSError(), PermanentFailure()]), 1, 0, None),
        ({}, ExceptionGroup("", [ExceptionGroup("", [RetryAfter(7)]), RetryAfter(9)]), 1, 0, 9),
        ({"on": (OSError,)}, ExceptionGroup("", [KeyError()]), 1, 0, None),
        ({"on": (OSError,)}, ExceptionGroup("", [KeyError(), OSError()]), 1, 0, 5),
        ({"give_up_on": (OSError,)}, ExceptionGroup("", [OSError()]), 1, 0, None),
        ({"give_up_on": (ExceptionGroup,)}, ExceptionGroup("", [OSError()]), 1, 0, None),
    ],
)
def test_whether_and_when(policy, exc, attempts, age, wait) -> None:
    """Each rule of the policy, and that deadline and budget hold for all."""
    policy = Retry(jitter="none", **policy)

    assert policy.wait_after(exc, attempts=attempts, age=age) == wait


def test_any_group_has_an_answer() -> None:
    """However deep it is, and whatever its class makes of it."""

    class Hostile(ExceptionGroup):
        @property
        def exceptions(self):
            raise RuntimeError

    deep: Exception = PermanentFailure()
    for _ in range(2_000):
        deep = ExceptionGroup("", [deep])

    assert Retry().wait_after(deep, attempts=1, age=0) is None
    assert Retry().wait_after(Hostile("", [PermanentFailure()]), attempts=1, age=0) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_attempts": 0}, "max_attempts=0 in a Retry: expected a whole number, 1 or more."),
        ({"max_attempts": 1.5}, "max_attempts=1.5 in a Retry: expected a whole number, 1 or more."),
        ({"max_delay": math.inf}, "max_delay=inf in a Retry: expected a number, 0 or more."),
        ({"deadline": -1}, "deadline=-1 in a Retry: expected seconds, 0 or more, or None."),
        ({"on": OSError}, f"on={OSError!r}: expected a tuple of exception classes. "
                                    "Write on=(OSError,)."),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused(given, message) -> None:
    """Where it is written, with the cure."""
    with pytest.raises(TypeError) as caught:
        Retry(**given)
    assert str(caught.value) == f"cannot use {message}"
