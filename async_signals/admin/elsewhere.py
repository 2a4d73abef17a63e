"""A word about what a list cannot show: what stands on other databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.utils.translation import gettext as _

from .. import stats
from .reading import ReadOnlyMixin

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

__all__ = ["ElsewhereMixin"]


class ElsewhereMixin(ReadOnlyMixin):
    """A list that says how many deliveries are not done on the databases that it is not of."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list below a warning for each other database with something to do."""
        response = super().changelist_view(request, extra_context)
        if request.method == "GET" and response.status_code == 200:
            for each in stats.elsewhere():
                text = _(
                    "Not in this list, on database %(database)s: %(failed)s failed, %(waiting)s on "
                    "their way. manage.py async_signals list --database %(database)s shows them."
                )
                words = {
                    "database": each.database,
                    "failed": each.failed,
                    "waiting": each.waiting,
                }
                self.message_user(request, text % words, messages.WARNING)
        return response
