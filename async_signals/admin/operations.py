"""Operations in the admin: who did what, when, why, and what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from ..models import Delivery, Operation
from . import moments
from .reading import ReadOnlyMixin

if TYPE_CHECKING:
    from django.http import HttpRequest

    from .links import Links

__all__ = ["OperationAdmin", "OperationAdminMixin"]

#: Items that the page of an operation names: what was left first.
ITEMS = 200


class OperationAdminMixin(ReadOnlyMixin):
    """The pages of the audit, for a ``ModelAdmin`` of Django or of a theme."""

    page_template: ClassVar[str] = "async_signals/admin/operation.html"
    list_display = ("what", "who", "why", "target_words", "came_to", "started")
    ordering = ("-started_at", "-pk")
    sortable_by = ("started",)

    @admin.display(description=_("what"))
    def what(self, operation: Operation) -> str:
        """Return the verb."""
        return operation.get_verb_display()

    @admin.display(description=_("who"))
    def who(self, operation: Operation) -> str:
        """Return the person, and the door."""
        return f"{operation.by} ({operation.via})"

    @admin.display(description=_("why"))
    def why(self, operation: Operation) -> str:
        """Return the reason."""
        return operation.reason

    @admin.display(description=_("target"))
    def target_words(self, operation: Operation) -> str:
        """Return what it was asked to act on."""
        return operation.target

    @admin.display(description=_("came to"))
    def came_to(self, operation: Operation) -> str:
        """Return what was changed, and what was not."""
        return _("%(changed)s of %(total)s changed") % {
            "changed": operation.changed,
            "total": operation.total,
        }

    @admin.display(description=_("when"), ordering="started_at")
    def started(self, operation: Operation) -> str:
        """Return when it began."""
        return moments.exactly(operation.started_at)

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the page of an operation shows."""
        items = list(row.items.order_by(F("changed").asc(), "pk")[: ITEMS + 1])
        return {
            "title": _("%(verb)s by %(who)s")
            % {"verb": row.get_verb_display().capitalize(), "who": self.who(row)},
            "items": [(item, links.to(Delivery, item.delivery)) for item in items[:ITEMS]],
            "is_cut": len(items) > ITEMS,
        }


@admin.register(Operation)
class OperationAdmin(OperationAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The audit in Django's own admin."""
