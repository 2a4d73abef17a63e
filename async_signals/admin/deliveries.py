"""Deliveries in the admin: the list, and a page for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Subquery
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from .. import registry, stats
from ..exceptions import OperationError
from ..ledger.pausing import with_pause
from ..ledger.payloads import readable
from ..ledger.turns import with_holder
from ..models import Delivery, Event, Operation, Pause
from . import columns
from .choice import Choice
from .filters import FILTERS
from .names import names_for
from .operating import OperatingMixin
from .search import search
from .timeline import steps_of
from .verbs import RETRY, VERBS

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from .links import Links

__all__ = ["DeliveryAdmin", "DeliveryAdminMixin"]


class DeliveryAdminMixin(OperatingMixin):
    """
    The pages of deliveries, for a ``ModelAdmin`` of Django or of a theme.

    ``class MyDeliveryAdmin(DeliveryAdminMixin, unfold.admin.ModelAdmin)``
    """

    page_template: ClassVar[str] = "async_signals/admin/delivery.html"
    list_filter = FILTERS
    #: So few that none has to be scrolled to beside the filters.
    list_display = ("state_and_next", "receiver_name", "error_and_attempts", "object_and_sent")
    list_display_links = ("receiver_name",)
    list_select_related = False  # See _with_object().
    ordering = ("-sent_at", "-pk")
    sortable_by = ("object_and_sent",)  # By the time, which alone has an index.
    search_fields = ("pk",)  # What shows the box; get_search_results() does the search.
    search_help_text = _("Id of a delivery or an event, primary key of an object, or a receiver")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the deliveries, each with its object, and with the one that holds it."""
        return _with_object(with_holder(super().get_queryset(request)))

    @admin.display(description=_("state, next attempt"))
    def state_and_next(self, delivery: Delivery) -> str:
        """Return the state, and when it is attempted next."""
        return format_html(
            "<div>{} {}</div>", columns.state_of(delivery), columns.next_of(delivery)
        )

    @admin.display(description=_("receiver, signal"))
    def receiver_name(self, delivery: Delivery) -> str:
        """Return the receiver, with the signal."""
        return columns.receiver_of(delivery)

    @admin.display(description=_("last error, attempts"))
    def error_and_attempts(self, delivery: Delivery) -> str:
        """Return the last error, and how often it was run."""
        return columns.error_and_attempts_of(delivery)

    @admin.display(description=_("object, sent"), ordering="sent_at")
    def object_and_sent(self, delivery: Any) -> str:
        """Return what its event is about, and when that was sent."""
        return columns.sent_of(columns.about_of(delivery, delivery.links), delivery.sent_at)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        """Search by index; each delivery is found once."""
        return search(queryset, search_term, names_for(request).receivers), False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Delivery | None:
        """Return a delivery with all that is known of it, as ``delivery.view``; None: no such."""
        try:
            view = stats.show(object_id, among=with_pause(self.get_queryset(request)))
        except (OperationError, ValidationError):
            return None
        view.delivery.view = view  # type: ignore[attr-defined]
        return view.delivery

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the page of a delivery shows."""
        possible = [verb for verb in VERBS.values() if verb.fits(row) and self.may(request, verb)]
        now = Choice(verb=RETRY.name, ids=(str(row.pk),), back=self.page_of(row.pk))
        view = row.view
        return {
            "title": _("Delivery to %(receiver)s") % {"receiver": row.receiver},
            "state": columns.state_of(row),
            "is_paused": _is_paused(row),
            "next": columns.next_words(row),
            "payload": readable(row.payload),
            "steps": steps_of(view.attempts),
            "about": columns.about_of(row, links),
            "event_url": links.to(Event, row.event_id),
            "original_url": links.to(Delivery, row.replay_of_id) if row.replay_of_id else "",
            "holder_url": links.to(Delivery, row.held_by) if row.held_by else "",
            "causes": [(each, links.to(Delivery, each.key)) for each in view.causes],
            "replays": [(each, links.to(Delivery, each.pk)) for each in view.replays],
            "audit": [(item, links.to(Operation, item.operation_id)) for item in view.operations],
            "verbs": [verb for verb in possible if verb is not RETRY],
            "retry_now": now.signed(request) if RETRY in possible else "",
            "pause": self._pause_link(request, row, links),
        }

    def _pause_link(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return where the receiver is paused or resumed; empty where this user may not."""
        if not request.user.has_perm("async_signals.pause_receiver"):
            return {}
        if _is_paused(row):
            return {"url": links.to(Pause, row.paused_as), "label": _("Resume receiver …")}
        return {"url": links.to_list(Pause, "add"), "label": _("Pause receiver …")}

    def page_of(self, key: object) -> str:
        """Return the path of the page of one delivery."""
        name = f"{self.admin_site.name}:async_signals_delivery_change"
        return reverse(name, args=[quote(str(key))])

    def list_url(self) -> str:
        """Return the path of the list."""
        return reverse(f"{self.admin_site.name}:async_signals_delivery_changelist")


def _is_paused(row: Any) -> bool:
    # Looked at again: MariaDB takes names for one that differ in their capitals only.
    return row.paused_as in registry.names_of(row.receiver)


def _with_object(rows: QuerySet[Any]) -> QuerySet[Any]:
    """
    Return deliveries with what their events are about, each looked up by its key.

    For a join of a page with its events, PostgreSQL may prefer to read all events there are.
    """
    events = Event._base_manager.using(rows.db).filter(pk=OuterRef("event_id"))
    with_object: QuerySet[Any] = rows.annotate(
        about_model=Subquery(events.values("instance_model")[:1]),
        about_key=Subquery(events.values("instance_pk")[:1]),
    )
    return with_object


@admin.register(Delivery)
class DeliveryAdmin(DeliveryAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Deliveries in Django's own admin."""
