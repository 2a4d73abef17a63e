"""What people want to know about deliveries: a few queries each, over indexes."""

from __future__ import annotations

from .deliveries import DeliveryView, count, deliveries, existing, matching, show
from .elsewhere import Elsewhere, elsewhere
from .filters import Filter
from .groups import Group, Standing, failures, holding_up, standing
from .summaries import ReceiverSummary, Summary, held_by_failures, summary

__all__ = [
    "DeliveryView",
    "Elsewhere",
    "Filter",
    "Group",
    "ReceiverSummary",
    "Standing",
    "Summary",
    "count",
    "deliveries",
    "elsewhere",
    "existing",
    "failures",
    "held_by_failures",
    "holding_up",
    "matching",
    "show",
    "standing",
    "summary",
]
