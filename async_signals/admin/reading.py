"""What all pages of the ledger have in common: they are read, and closed by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from ..ledger import alias
from .links import Links
from .paging import CappedPaginator

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

    Reading = admin.ModelAdmin[Any]
else:
    Reading = object

__all__ = ["ReadOnlyMixin"]


class ReadOnlyMixin(Reading):
    """
    A model's pages in the admin without any form: a list, and a page for each row.

    Goes before ``ModelAdmin``, Django's or another one's.
    """

    page_template: ClassVar[str]  #: Of the page of one row.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # They count every row.
    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 50

    class Media:
        """The style sheet of the lists; the other pages link it themselves."""

        css: ClassVar = {"all": ["async_signals/ledger.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: rows are made by deliveries and operations."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: what may be changed has an operation."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: rows are pruned."""
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow what a filter takes, and no more: ``?envelope__contains=`` would find secrets."""
        return lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read where the ledger is written, so that nobody acts on an old replica."""
        return super().get_queryset(request).using(alias())

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        """Return a row; None: there is none of that id, nor can there be where it has a NUL."""
        if "\x00" in object_id:  # Which some databases refuse to look for.
            return None
        return super().get_object(request, object_id, from_field)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Turn all of the order with its first column: so an index has it from either end."""
        parent: Any = super().get_changelist(request, **kwargs)

        class IndexedList(parent):  # type: ignore[misc]
            def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
                first, *others = super().get_ordering(request, queryset)
                turn = "-" if str(first).startswith("-") else ""
                return [first, *(f"{turn}pk" if str(x) in ("pk", "-pk") else x for x in others)]

        return IndexedList

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Tell the rows of the list what this user may open, as ``row.links``."""
        changelist = super().get_changelist_instance(request)
        links = Links(self.admin_site, request)
        for row in changelist.result_list:
            row.links = links
        return changelist

    def page_context(self, request: HttpRequest, row: Any, links: Links) -> dict[str, Any]:
        """Return what the template of the page needs, besides ``row``."""
        return {}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of one row; there is no form on it to save."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self._missing(request, object_id)
        links = Links(self.admin_site, request)
        context = {"title": str(row), "row": row, **self.page_context(request, row, links)}
        return self.render_page(request, self.page_template, context | (extra_context or {}))

    def _missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("There is none of that id. It was pruned, or succeeded at once.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(Links(self.admin_site, request).to_list(self.model))

    def render_page(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """Return a page inside the frame of the admin that this is."""
        links = Links(self.admin_site, request)
        frame = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "back": links.to_list(self.model),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, template, frame | context)
