"""The tables: the ledger of events, deliveries and attempts, and what keeps it in order."""

from __future__ import annotations

from .claims import Claim, Throttle, Turn, UniqueEvent
from .groups import FailureGroup
from .ledger import FINAL_STATES, LIVE_STATES, Attempt, Delivery, Event, Outcome, State
from .operations import Operation, OperationItem, Pause

__all__ = [
    "FINAL_STATES",
    "LIVE_STATES",
    "Attempt",
    "Claim",
    "Delivery",
    "Event",
    "FailureGroup",
    "Operation",
    "OperationItem",
    "Outcome",
    "Pause",
    "State",
    "Throttle",
    "Turn",
    "UniqueEvent",
]
