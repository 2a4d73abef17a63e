"""Links to other pages of the same admin, for those who may open them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.db.models import Model
    from django.http import HttpRequest


__all__ = ["Links"]


class Links:
    """The pages that one request may link to; asks for each model's permission once."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site = site
        self._request = request
        self._open: dict[type[Model], bool] = {}

    def to(self, model: type[Model], key: object, page: str = "change") -> str:
        """Return the URL of the page of one row; empty: there is none, or not for this user."""
        name = f"{self._site.name}:{model._meta.app_label}_{model._meta.model_name}_{page}"
        if not self._may_open(model):
            return ""
        try:
            return reverse(name, args=[quote(str(key))])
        except NoReverseMatch:
            return ""

    def to_list(self, model: type[Model], page: str = "changelist") -> str:
        """Return the URL of a page of all rows; empty: there is none, or not for this user."""
        name = f"{self._site.name}:{model._meta.app_label}_{model._meta.model_name}_{page}"
        return reverse(name) if self._may_open(model) else ""

    def to_object(self, label: str, key: str) -> str:
        """Return a link to the object that an event is about, its name alone, or an empty text."""
        if not label:
            return ""
        text = f"{label} {key}"
        try:
            url = self.to(apps.get_model(label), key)
        except (LookupError, ValueError):  # The model was removed since.
            url = ""
        return format_html('<a href="{}">{}</a>', url, text) if url else text

    def _may_open(self, model: type[Model]) -> bool:
        if model not in self._open:
            is_open = self._site.is_registered(model)
            if is_open:
                found: Any = self._site.get_model_admin(model)
                is_open = found.has_view_or_change_permission(self._request)
            self._open[model] = is_open
        return self._open[model]
