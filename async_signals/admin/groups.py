"""Groups of equal failures in the admin, with what each holds up."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from .. import stats
from ..models import Delivery, FailureGroup
from . import columns, moments
from .elsewhere import ElsewhereMixin
from .verbs import RETRY

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from .links import Links

__all__ = ["FailureGroupAdmin", "FailureGroupAdminMixin"]


class StandingFilter(admin.SimpleListFilter):
    """Groups that hold deliveries up, unless all are wanted."""

    title = _("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Any:
        """Return what there is besides "All", which means those that hold deliveries up."""
        return [("over", _("also those that are over"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the groups."""
        return queryset if self.value() == "over" else stats.holding_up(queryset)

    def choices(self, changelist: ChangeList) -> Any:
        """Name the default what it is."""
        first, *others = super().choices(changelist)
        yield {**first, "display": _("Holding up deliveries")}
        yield from others


class FailureGroupAdminMixin(ElsewhereMixin):
    """The pages of groups of failures, for a ``ModelAdmin`` of Django or of a theme."""

    page_template: ClassVar[str] = "async_signals/admin/group.html"
    list_display = ("error_and_receiver", "failed", "waiting", "next_attempt", "last_seen")
    list_filter = (StandingFilter,)
    ordering = ("-last_at", "pk")
    sortable_by = ("last_seen",)
    actions = ("retry_groups",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Count what the groups of one page hold up, all at once: 1 query."""
        parent: Any = super().get_changelist(request, **kwargs)

        class GroupList(parent):  # type: ignore[misc]
            def get_results(self, request: HttpRequest) -> None:
                super().get_results(request)
                self.result_list: list[Any] = list(self.result_list)
                standings = stats.standing(each.pk for each in self.result_list)
                for each in self.result_list:
                    each.standing = standings[each.pk]

        return GroupList

    @admin.display(description=_("error, receiver"))
    def error_and_receiver(self, group: FailureGroup) -> str:
        """Return what failed, and where it failed first."""
        return format_html(
            '{}<span class="ledger-below ledger-quiet">{}</span>',
            columns.error_of(group) or group.pk,
            columns.breakable(group.receiver),
        )

    @admin.display(description=_("failed"))
    def failed(self, group: Any) -> int:
        """Return how many wait for a person."""
        return group.standing.failed  # type: ignore[no-any-return]

    @admin.display(description=_("waiting"))
    def waiting(self, group: Any) -> int:
        """Return how many are attempted again by themselves."""
        return group.standing.waiting  # type: ignore[no-any-return]

    @admin.display(description=_("next attempt"))
    def next_attempt(self, group: Any) -> str:
        """Return when the first of these is."""
        at = group.standing.next_at
        return columns.moment_of(at) if at else ""

    @admin.display(description=_("last seen"), ordering="last_at")
    def last_seen(self, group: FailureGroup) -> str:
        """Return when it failed last."""
        return moments.exactly(group.last_at)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether this user may see the groups, and retry deliveries."""
        return self.has_view_permission(request) and self._may_retry(request)

    def _may_retry(self, request: HttpRequest) -> bool:
        if not self.admin_site.is_registered(Delivery):
            return False
        deliveries: Any = self.admin_site.get_model_admin(Delivery)
        return hasattr(deliveries, "ask") and deliveries.may(request, RETRY)

    @admin.action(description=_("Retry all of these groups …"), permissions=["retry"])
    def retry_groups(self, request: HttpRequest, queryset: QuerySet[FailureGroup]) -> HttpResponse:
        """Ask whether to retry every delivery that these groups hold up."""
        if not self._may_retry(request):
            raise PermissionDenied
        deliveries: Any = self.admin_site.get_model_admin(Delivery)
        fingerprints = list(queryset.values_list("pk", flat=True))
        rows = deliveries.get_queryset(request).filter(
            fingerprint__in=fingerprints, state__in=RETRY.meant
        )
        return deliveries.ask(request, RETRY, rows)  # type: ignore[no-any-return]

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the page of a group shows."""
        standing = stats.standing([row.pk])[row.pk]
        url = links.to_list(Delivery)
        return {
            "standing": standing,
            # The form is the list's action, for one group.
            "retries": self.has_retry_permission(request)
            and bool(standing.failed or standing.waiting),
            "next": moments.until(standing.next_at) if standing.next_at else "",
            "deliveries_url": f"{url}?{urllib.parse.urlencode({'fingerprint': row.pk})}"
            if url
            else "",
        }


@admin.register(FailureGroup)
class FailureGroupAdmin(FailureGroupAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Groups of failures in Django's own admin."""
