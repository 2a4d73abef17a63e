"""
One delivery that is stored, workers that claim it, and relays that publish it again.

The steps are those of ``ledger/claims.py`` and ``ledger/due.py``, each as atomic as its
statement there: claim, renew, record; take what is due, publish. Between any two of them
anything may happen: a crash, a lease that ends while its worker sleeps, a message that comes
twice or never.

The clock is in the model as what it does: a lease that nobody renews may end at any time while
its worker is asleep or dead, and what was published may be due again at any time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Bounds", "Deliveries", "Parts"]

Phase = Literal["idle", "has claimed", "has run"]


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    phase: Phase = "idle"
    epoch: int = 0  #: Of its claim.
    sleeps: bool = False  #: It does not renew its lease.
    has_slept: bool = False  #: It may not know yet that it has lost its claim.


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """The row, what is in the broker, and who does what."""

    state: Literal["pending", "published", "running", "succeeded", "failed"] = "pending"
    epoch: int = 0
    has_lease: bool = False  #: The lease of who runs it goes on.
    is_due: bool = True  #: What waits may be taken by a relay.
    messages: tuple[int, ...] = ()  #: The epochs that they are for, in order.
    workers: tuple[Worker, ...] = ()
    relays: tuple[int | None, ...] = ()  #: The epoch that each has taken and not published.
    effects: int = 0  #: Committed together with a success: ``effect="once"``.
    mishaps: int = 0  #: Crashes, stalls, duplicates and losses so far.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    workers: int = 2
    relays: int = 2
    mishaps: int = 3
    messages: int = 2  #: In the broker at the same time.
    epochs: int = 3  #: Attempts: three deaths quarantine.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the ledger is made of; without one of them it is another one."""

    claim: bool = True  #: Only who finds the row waiting, at its message's epoch, runs it.
    fence: bool = True  #: A result is written only at the epoch of its claim, not at any other.
    renewal: bool = True  #: A lease goes on while its worker lives.
    republish: bool = True  #: What was published and not claimed is due again.


class Deliveries:
    """See ``explorer.Model``."""

    def __init__(self, bounds: Bounds, parts: Parts | None = None) -> None:
        self._bounds = bounds
        self._parts = parts or Parts()

    def start(self) -> World:
        return World(
            workers=(Worker(),) * self._bounds.workers, relays=(None,) * self._bounds.relays
        )

    def likeness(self, world: World) -> Hashable:
        """Which worker is which does not matter, nor which relay."""
        workers = sorted(
            (each.phase, each.epoch, each.sleeps, each.has_slept) for each in world.workers
        )
        relays = sorted(-1 if taken is None else taken for taken in world.relays)
        rest = world.state, world.epoch, world.has_lease, world.is_due, world.messages
        return (*rest, world.effects, world.mishaps, *workers, *relays)

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._of_relays(world)
        for n in range(len(world.workers)):
            yield from self._of_worker(world, n)
        yield from self._of_time(world)
        if world.mishaps < self._bounds.mishaps:
            for what, after in self._mishaps(world):
                yield what, dataclasses.replace(after, mishaps=world.mishaps + 1)

    def _of_relays(self, world: World) -> Iterator[tuple[str, World]]:
        for n, taken in enumerate(world.relays):
            if taken is not None:
                if len(world.messages) < self._bounds.messages:
                    after = _with_relay(world, n, None)
                    messages = tuple(sorted((*world.messages, taken)))
                    yield f"relay {n} publishes", dataclasses.replace(after, messages=messages)
            elif world.state in ("pending", "published") and world.is_due:
                after = _with_relay(world, n, world.epoch)
                yield (
                    f"relay {n} takes it",
                    dataclasses.replace(after, state="published", is_due=False),
                )
            elif world.state == "running" and not world.has_lease:
                is_final = world.epoch >= self._bounds.epochs
                state = "failed" if is_final else "pending"
                yield (
                    f"relay {n} sees a death",
                    dataclasses.replace(world, state=state, is_due=True),
                )

    def _of_worker(self, world: World, n: int) -> Iterator[tuple[str, World]]:
        worker = world.workers[n]
        if worker.sleeps:
            yield f"worker {n} wakes up", _with_worker(world, n, sleeps=False)
        elif worker.phase == "idle":
            for message in sorted(set(world.messages)):
                yield f"worker {n} gets a message", self._claim(world, n, message)
        elif worker.phase == "has claimed":
            yield f"worker {n} runs it", _with_worker(world, n, phase="has run")
        else:
            yield f"worker {n} succeeds", self._record(world, n, is_well=True)
            yield f"worker {n} fails", self._record(world, n, is_well=False)
        if worker.phase != "idle" and not self._parts.renewal:
            yield "the lease ends", dataclasses.replace(world, has_lease=False)

    def _claim(self, world: World, n: int, message: int) -> World:
        messages = list(world.messages)
        messages.remove(message)
        world = dataclasses.replace(world, messages=tuple(messages))
        may = world.state in ("pending", "published") and world.epoch == message
        if not may and (self._parts.claim or world.epoch >= self._bounds.epochs):
            return world  # It is another's, or done.
        epoch = world.epoch + 1
        world = dataclasses.replace(world, state="running", epoch=epoch, has_lease=True)
        return _with_worker(world, n, phase="has claimed", epoch=epoch)

    def _record(self, world: World, n: int, *, is_well: bool) -> World:
        is_own = world.workers[n].epoch == world.epoch or not self._parts.fence
        is_held = world.state == "running" and is_own
        world = _with_worker(world, n, **dataclasses.asdict(Worker()))
        if not is_held:
            return world  # What it wrote is rolled back.
        if is_well:
            return dataclasses.replace(
                world, state="succeeded", has_lease=False, effects=world.effects + 1
            )
        is_final = world.epoch >= self._bounds.epochs
        state = "failed" if is_final else "pending"
        return dataclasses.replace(world, state=state, has_lease=False, is_due=True)

    def _of_time(self, world: World) -> Iterator[tuple[str, World]]:
        is_lost_sight_of = world.state == "published" and not world.is_due
        if is_lost_sight_of and self._parts.republish:
            yield "it is due again", dataclasses.replace(world, is_due=True)
        if world.has_lease and not any(
            each.epoch == world.epoch and each.phase != "idle" and not each.sleeps
            for each in world.workers
        ):
            yield "the lease ends", dataclasses.replace(world, has_lease=False)

    def _mishaps(self, world: World) -> Iterator[tuple[str, World]]:
        for n, worker in enumerate(world.workers):
            if worker.phase != "idle":
                # Another one is started in its place.
                fresh = dataclasses.asdict(Worker())
                yield f"worker {n} dies", _with_worker(world, n, **fresh)
                if not worker.sleeps:
                    asleep = _with_worker(world, n, sleeps=True, has_slept=True)
                    yield f"worker {n} falls asleep", asleep
        for n, taken in enumerate(world.relays):
            if taken is not None:
                yield f"relay {n} dies", _with_relay(world, n, None)
        for message in sorted(set(world.messages)):
            left = list(world.messages)
            left.remove(message)
            yield "a message is lost", dataclasses.replace(world, messages=tuple(left))
            if len(world.messages) < self._bounds.messages:
                twice = tuple(sorted((*world.messages, message)))
                yield "a message comes twice", dataclasses.replace(world, messages=twice)

    def broken(self, world: World, following: list[World]) -> str:
        if world.effects > 1:
            return "its effect was committed twice"
        at_work = [each for each in world.workers if each.phase != "idle" and not each.has_slept]
        if len(at_work) > 1:  # Who has slept finds out when it records.
            return "two run it at once"
        is_over = world.state in ("succeeded", "failed")
        if not is_over and all(after == world for after in following):
            return "it is lost: nothing will ever happen to it"
        if is_over and any(after.state != world.state for after in following):
            return "it has left its end"
        if world.state == "succeeded" and world.effects != 1:
            return "it has succeeded without its effect"
        return ""


def _with_worker(world: World, n: int, **changes: object) -> World:
    workers = list(world.workers)
    workers[n] = dataclasses.replace(workers[n], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(world, workers=tuple(workers))


def _with_relay(world: World, n: int, taken: int | None) -> World:
    relays = list(world.relays)
    relays[n] = taken
    return dataclasses.replace(world, relays=tuple(relays))
