"""Events in the admin: what was sent, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ..models import Delivery, Event
from . import columns
from .filters import SentFilter
from .reading import ReadOnlyMixin

if TYPE_CHECKING:
    from django.http import HttpRequest

    from .links import Links

__all__ = ["EventAdmin", "EventAdminMixin"]

#: Deliveries that the page of an event names.
DELIVERIES = 100


class EventAdminMixin(ReadOnlyMixin):
    """The pages of events, for a ``ModelAdmin`` of Django or of a theme."""

    page_template: ClassVar[str] = "async_signals/admin/event.html"
    list_filter = (SentFilter,)
    ordering = ("-sent_at", "-pk")
    list_display = ("signal_name", "sender_label", "object_and_sent")
    sortable_by = ("object_and_sent",)

    @admin.display(description=_("signal"))
    def signal_name(self, event: Event) -> str:
        """Return the signal."""
        return columns.name_of(event.signal) if event.signal else "?"

    @admin.display(description=_("sender"))
    def sender_label(self, event: Event) -> str:
        """Return the sender."""
        return event.sender

    @admin.display(description=_("object, sent"), ordering="sent_at")
    def object_and_sent(self, event: Any) -> str:
        """Return what it is about, and when it was sent."""
        about = event.links.to_object(event.instance_model, event.instance_pk)
        return columns.sent_of(about, event.sent_at)

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the page of an event shows."""
        rows = Delivery.objects.using(row._state.db).filter(event=row.pk).order_by("receiver")
        found = rows.only("receiver", "state", "due_at")[:DELIVERIES]
        return {
            "title": _("Event %(signal)s") % {"signal": row.signal or "?"},
            "about": links.to_object(row.instance_model, row.instance_pk),
            "cause_url": links.to(Delivery, row.cause) if row.cause else "",
            "deliveries": [
                (each, links.to(Delivery, each.pk), columns.state_of(each)) for each in found
            ],
        }


@admin.register(Event)
class EventAdmin(EventAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Events in Django's own admin."""
