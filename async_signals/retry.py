"""When a failed attempt is followed by another one; pure."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import TYPE_CHECKING, Any, Literal

from .exceptions import DeliveryError, PermanentFailure, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONGEST_WAIT", "Retry"]

#: Seconds of a year: more than any clock or database has trouble with.
LONGEST_WAIT = 366 * 86_400
#: Errors of a group that are looked at.
_MOST = 10_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """
    The retry policy of a robust receiver; all times in seconds.

    The delay after attempt *n* is drawn from between 0 and ``initial_delay * factor ** (n - 1)``,
    at most ``max_delay``, so that what failed together does not come back together.

    Source:
        "Full jitter": Marc Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """

    max_attempts: int = 9  #: Runs in all, the first one included.
    initial_delay: float = 5  #: Seconds, longest wait before the second attempt.
    factor: float = 2  #: By which the longest wait grows with each attempt.
    max_delay: float = 3600  #: Seconds that no wait exceeds.
    jitter: Literal["full", "none"] = "full"  #: "none" waits exactly as long as it may.
    on: tuple[type[BaseException], ...] = (Exception,)  #: What is worth another attempt.
    give_up_on: tuple[type[BaseException], ...] = ()  #: What is not, although ``on`` has it.
    deadline: float | None = (
        None  #: Seconds after the signal was sent; no attempt is planned later.
    )

    def __post_init__(self) -> None:
        for name in ("initial_delay", "factor", "max_delay"):
            _check(name, getattr(self, name), "a number, 0 or more", minimum=0)
        _check(
            "max_attempts", self.max_attempts, "a whole number, 1 or more", minimum=1, whole=True
        )
        if self.deadline is not None:
            _check("deadline", self.deadline, "seconds, 0 or more, or None", minimum=0)
        if self.jitter not in ("full", "none"):
            raise ValueError(f"cannot use jitter={self.jitter!r}: expected 'full' or 'none'.")
        for name in ("on", "give_up_on"):
            classes = getattr(self, name)
            if not isinstance(classes, tuple) or not all(
                isinstance(each, type) and issubclass(each, BaseException) for each in classes
            ):
                raise TypeError(
                    f"cannot use {name}={classes!r}: expected a tuple of exception classes. "
                    f"Write {name}=(OSError,)."
                )

    def wait_after(self, exc: BaseException, *, attempts: int, age: float) -> float | None:
        """
        Return the seconds to wait before the next attempt, at most a year, or None to give up.

        Args:
            exc: What the last attempt raised; an exception group is each of those in it.
            attempts: How many have raised so far, the last one included.
            age: Seconds since the signal was sent, or a person asked for it again.
        """
        if attempts >= self.max_attempts or _has(exc, (PermanentFailure, *self.give_up_on)):
            return None
        asked = [each.seconds for each in _each(exc) if isinstance(each, RetryAfter)]
        if asked:
            wait = min(LONGEST_WAIT, max(asked))
        elif _has(exc, (DeliveryError, *self.on)) or not isinstance(exc, Exception):
            # A worker that is older than the sender may be replaced by then; a receiver that
            # asked its process to exit has failed, whatever it meant.
            wait = self.delay(attempts)
        else:
            return None
        if self.deadline is not None and age + wait > self.deadline:
            return None
        return wait

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after the attempt of that number, 1 for the first."""
        try:
            longest = min(self.max_delay, self.initial_delay * self.factor ** (attempts - 1))
        except OverflowError:
            longest = self.max_delay
        longest = min(longest, LONGEST_WAIT)
        return longest if self.jitter == "none" else random.uniform(0, longest)  # noqa: S311


def _each(exc: BaseException) -> Iterator[BaseException]:
    """Yield what *exc* consists of: itself, or what is in the group that it is; not without end."""
    waiting = [exc]
    for _ in range(_MOST):
        if not waiting:
            return
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            # Past what a subclass makes of it.
            waiting.extend(BaseExceptionGroup.exceptions.__get__(each))
        else:
            yield each


def _has(exc: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    return isinstance(exc, classes) or any(isinstance(each, classes) for each in _each(exc))


def _check(name: str, value: Any, expected: str, *, minimum: float, whole: bool = False) -> None:
    is_number = type(value) is int or (type(value) is float and not whole)
    if not is_number or not minimum <= value < math.inf:
        raise TypeError(f"cannot use {name}={value!r} in a Retry: expected {expected}.")
