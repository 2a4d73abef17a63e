"""
The ledger in Django's admin: everything can be read, and only operations change it.

Imported by the admin's autodiscovery, and by nothing else: a site without the admin does not
load it.
"""

from __future__ import annotations

from .deliveries import DeliveryAdmin, DeliveryAdminMixin
from .events import EventAdmin, EventAdminMixin
from .groups import FailureGroupAdmin, FailureGroupAdminMixin
from .operations import OperationAdmin, OperationAdminMixin
from .pauses import PauseAdmin, PauseAdminMixin

__all__ = [
    "DeliveryAdmin",
    "DeliveryAdminMixin",
    "EventAdmin",
    "EventAdminMixin",
    "FailureGroupAdmin",
    "FailureGroupAdminMixin",
    "OperationAdmin",
    "OperationAdminMixin",
    "PauseAdmin",
    "PauseAdminMixin",
]
