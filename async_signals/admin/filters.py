"""What a list of deliveries can be narrowed by; each stands on an index."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.contrib.admin import SimpleListFilter
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..models import State
from ..stats import Filter
from .columns import breakable
from .names import CHOICES, names_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.admin import ModelAdmin
    from django.db.models import QuerySet
    from django.http import HttpRequest

__all__ = ["FILTERS"]


class ByName(SimpleListFilter):
    """Equal to one of the names that are known, or to the one in the URL."""

    title: Any = ""
    parameter_name = ""
    names = ""  #: Attribute of ``Names``.

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        """Return the known names, and the chosen one."""
        known = set(getattr(names_for(request), self.names)[:CHOICES])
        chosen = {str(name) for name in request.GET.getlist(self.parameter_name)}
        return [(name, breakable(name)) for name in sorted((known | chosen) - {""})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries of that name."""
        chosen = self.value()
        return queryset.filter(**{self.parameter_name: chosen}) if chosen else queryset


class ReceiverFilter(ByName):
    """Deliveries to one receiver, under any name that it has or had."""

    title = _("receiver")
    parameter_name = "receiver"
    names = "receivers"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries to it."""
        return Filter(receiver=self.value() or None).apply(queryset)


class SignalFilter(ByName):
    """Deliveries of one signal."""

    title = _("signal")
    parameter_name = "signal"
    names = "signals"


class ExceptionFilter(ByName):
    """Deliveries that one class of exceptions made fail last."""

    title = _("exception")
    parameter_name = "exception"
    names = "exceptions"


class StateFilter(SimpleListFilter):
    """Deliveries in one state."""

    title = _("state")
    parameter_name = "state"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, Any]]:
        """Return every state."""
        return State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries in that state."""
        chosen = self.value()
        return queryset.filter(state=chosen) if chosen else queryset


class SentFilter(SimpleListFilter):
    """Deliveries of events that were sent lately."""

    title = _("sent")
    parameter_name = "sent"
    ages = {  # noqa: RUF012
        "15min": dt.timedelta(minutes=15),
        "1h": dt.timedelta(hours=1),
        "24h": dt.timedelta(days=1),
        "7d": dt.timedelta(days=7),
        "30d": dt.timedelta(days=30),
    }

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, Any]]:
        """Return some ages."""
        return [
            ("15min", _("past 15 minutes")),
            ("1h", _("past hour")),
            ("24h", _("past 24 hours")),
            ("7d", _("past 7 days")),
            ("30d", _("past 30 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries that are not older."""
        age = self.ages.get(self.value() or "")
        return queryset.filter(sent_at__gte=timezone.now() - age) if age else queryset


class GroupFilter(SimpleListFilter):
    """Deliveries that failed alike; offered only where a link has chosen it."""

    title = _("failure group")
    parameter_name = "fingerprint"

    def lookups(
        self, request: HttpRequest, model_admin: ModelAdmin[Any]
    ) -> Iterable[tuple[str, str]]:
        """Return the chosen one."""
        return [(name, name[:8]) for name in request.GET.getlist(self.parameter_name) if name]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries of that group."""
        chosen = self.value()
        return queryset.filter(fingerprint=chosen) if chosen else queryset


FILTERS = (StateFilter, ReceiverFilter, SentFilter, ExceptionFilter, SignalFilter, GroupFilter)
