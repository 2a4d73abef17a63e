"""Paused receivers in the admin: a receiver is paused and resumed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import operations
from ..exceptions import OperationError
from ..models import Pause
from . import moments
from .names import names_for
from .reading import ReadOnlyMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern

    from ..models import Operation
    from .links import Links

__all__ = ["PauseAdmin", "PauseAdminMixin"]


class PauseAdminMixin(ReadOnlyMixin):
    """The pages of paused receivers, for a ``ModelAdmin`` of Django or of a theme."""

    page_template: ClassVar[str] = "async_signals/admin/pause.html"
    form_template: ClassVar[str] = "async_signals/admin/pause_form.html"
    list_display = ("receiver_name", "paused_by", "why", "paused_since")
    ordering = ("receiver",)
    sortable_by = ()
    actions = ("resume_selected",)

    @admin.display(description=gettext_lazy("receiver"))
    def receiver_name(self, pause: Pause) -> str:
        """Return the receiver."""
        return pause.receiver

    @admin.display(description=gettext_lazy("by"))
    def paused_by(self, pause: Pause) -> str:
        """Return who has paused it."""
        return pause.by

    @admin.display(description=gettext_lazy("why"))
    def why(self, pause: Pause) -> str:
        """Return the reason."""
        return pause.reason

    @admin.display(description=gettext_lazy("since"))
    def paused_since(self, pause: Pause) -> str:
        """Return since when it waits."""
        return moments.exactly(pause.since)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Whether this user may pause and resume receivers, and see them."""
        return self.has_view_permission(request) and request.user.has_perm(
            "async_signals.pause_receiver"
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Show the way to our own page, which calls the operation."""
        return self.has_pause_permission(request)

    @admin.action(description=gettext_lazy("Resume selected receivers"), permissions=["pause"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Pause]) -> None:
        """Resume what was selected; there is nothing to lose, so nothing to confirm."""
        for name in queryset.values_list("receiver", flat=True):
            self._do(request, operations.resume, name, "")

    def get_urls(self) -> list[URLPattern]:
        """Add what the button of a pause's page POSTs to."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_resume"
        view = self.admin_site.admin_view(self.resume_view)
        return [path("<path:object_id>/resume/", view, name=name), *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Ask which receiver to pause, and do it by POST."""
        if not self.has_pause_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        receiver = request.POST.get("receiver", "").replace("\x00", "")
        if request.method == "POST" and self._do(
            request, operations.pause, receiver, _why(request)
        ):
            return HttpResponseRedirect(self.list_url())
        chosen = receiver or request.GET.get("receiver", "")
        known = sorted({*names_for(request).receivers, chosen} - {""})
        context = {"title": _("Pause a receiver"), "receivers": known, "chosen": chosen}
        return self.render_page(request, self.form_template, context)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Resume one receiver."""
        if not self.has_pause_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._do(request, operations.resume, unquote(object_id), _why(request))
        return HttpResponseRedirect(self.list_url())

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the page of a paused receiver shows."""
        url = links.to(Pause, row.pk, "resume") if self.has_pause_permission(request) else ""
        return {"title": _("%(receiver)s is paused") % {"receiver": row.pk}, "resume_url": url}

    def list_url(self) -> str:
        """Return the path of the list."""
        return reverse(f"{self.admin_site.name}:async_signals_pause_changelist")

    def _do(
        self, request: HttpRequest, operate: Callable[..., Operation], receiver: str, reason: str
    ) -> bool:
        by = request.user.get_username()
        try:
            operation = operate(receiver, by=by, via="admin", reason=reason)
        except OperationError as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return False
        text = _said(operation) % {"receiver": receiver}
        level = messages.SUCCESS if operation.changed else messages.WARNING
        self.message_user(request, text, level)
        self.log_change(request, operation, text)
        return True


def _why(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\x00", "").strip()


def _said(operation: Operation) -> str:
    texts = {
        ("pause", 1): _("%(receiver)s is paused: its deliveries wait."),
        ("pause", 0): _("%(receiver)s was paused already."),
        ("resume", 1): _("%(receiver)s goes on."),
        ("resume", 0): _("%(receiver)s was not paused."),
    }
    return texts[operation.verb, operation.changed]


@admin.register(Pause)
class PauseAdmin(PauseAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Paused receivers in Django's own admin."""
