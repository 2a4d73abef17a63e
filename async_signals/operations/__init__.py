"""
Every change that a person may make to deliveries, for all faces: command, admin, Python.

Each is written down as an ``Operation``: who, through what, when, why, and what it came to for
each delivery. It works on a frozen set, in batches, and compares before it sets: two people who
ask for the same at the same time get it once.
"""

from __future__ import annotations

from .discarding import discard
from .frozen_set import FrozenSet, candidates
from .pausing import pause, resume
from .pruning import prunable, prune
from .receivers import known_name
from .rehearsing import Rehearsal, rehearse
from .replaying import replay
from .retrying import retry

__all__ = [
    "FrozenSet",
    "Rehearsal",
    "candidates",
    "discard",
    "known_name",
    "pause",
    "prunable",
    "prune",
    "rehearse",
    "replay",
    "resume",
    "retry",
]
