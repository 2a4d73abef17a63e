"""Every state that a model can come to, by every order of its steps, breadth first."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["BrokenError", "Model", "explore"]

State = TypeVar("State", bound="Hashable")


class BrokenError(Exception):
    """An invariant does not hold; the message is the shortest way to there."""


class Model(Protocol[State]):
    """What is explored."""

    def start(self) -> State: ...

    def steps(self, state: State) -> Iterable[tuple[str, State]]:
        """Yield every step that may come next, with the state that it leads to."""

    def likeness(self, state: State) -> Hashable:
        """Return what two states have in common of which one need be explored."""

    def broken(self, state: State, following: list[State]) -> str:
        """Return which invariant *state* breaks; empty: none."""


def explore(model: Model[State], *, limit: int = 2_000_000) -> int:
    """
    Visit every state, or one like it, and return how many there are.

    Raises:
        BrokenError: An invariant does not hold in one of them.
        OverflowError: There are more than *limit*.
    """
    start = model.start()
    seen = {model.likeness(start)}
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting = collections.deque([start])
    while waiting:
        state = waiting.popleft()
        following = []
        for step, after in model.steps(state):
            following.append(after)
            likeness = model.likeness(after)
            if likeness not in seen:
                seen.add(likeness)
                came_from[after] = (state, step)
                waiting.append(after)
        if why := model.broken(state, following):
            raise BrokenError(f"{why}, after: {' > '.join(_way(came_from, state))}")
        if len(came_from) > limit:
            raise OverflowError(f"more than {limit} states")
    return len(came_from)


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps = []
    while (before := came_from[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]
