"""Retry, discard and replay: asked about on a page of their own, then done by POST."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..exceptions import OperationError
from ..models import State
from .choice import Choice
from .elsewhere import ElsewhereMixin
from .verbs import DISCARD, REPLAY, RETRY, VERBS, Verb, outcome_of

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern

    from ..models import Delivery, Operation

__all__ = ["OperatingMixin"]


class OperatingMixin(ElsewhereMixin):
    """The actions and the URLs that change deliveries, each with its own permission."""

    question_template: ClassVar[str] = "async_signals/admin/question.html"
    actions = ("retry_selected", "discard_selected", "replay_selected")

    def may(self, request: HttpRequest, verb: Verb) -> bool:
        """Whether this user may do it, and see what it is done to."""
        user = request.user
        return self.has_view_permission(request) and user.has_perm(verb.permission)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """For the action, as the two below."""
        return self.may(request, RETRY)

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Whether this user may give deliveries up."""
        return self.may(request, DISCARD)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether this user may have deliveries made again."""
        return self.may(request, REPLAY)

    @admin.action(description=gettext_lazy("Retry …"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse:
        """Ask whether to retry what was selected."""
        return self.ask(request, RETRY, queryset)

    @admin.action(description=gettext_lazy("Discard …"), permissions=["discard"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse:
        """Ask whether, and why, to discard what was selected."""
        return self.ask(request, DISCARD, queryset)

    @admin.action(description=gettext_lazy("Replay …"), permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse:
        """Ask whether to replay what was selected."""
        return self.ask(request, REPLAY, queryset)

    def ask(self, request: HttpRequest, verb: Verb, queryset: QuerySet[Delivery]) -> HttpResponse:
        """Freeze the deliveries, and ask what to do with exactly these."""
        if request.POST.get("select_across") == "1" and not request.GET.get("state"):
            # As everywhere: who retries all brings nothing back that was discarded on purpose.
            queryset = queryset.filter(state__in=verb.meant)
        choice = Choice.freeze(verb.name, queryset, back=request.get_full_path())
        return self.question(request, verb, choice)

    def question(
        self, request: HttpRequest, verb: Verb, choice: Choice, error: str = ""
    ) -> HttpResponse:
        """Return the page that asks."""
        number = len(choice.ids)
        context = {
            "title": verb.question % {"number": number},
            "verb": verb,
            "choice": choice,
            "number": number,
            "signed": choice.signed(request),
            "answer": verb.answer % {"number": number},
            "states": [(each, State(each).label, many) for each, many in choice.states.items()],
            "error": error,
            "reason": request.POST.get("reason", ""),
            "back": choice.back,
        }
        return self.render_page(request, self.question_template, context)

    def get_urls(self) -> list[URLPattern]:
        """Add what a confirmed operation and the buttons of a delivery's page POST to."""
        wrap, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("ask/<slug:verb>/", wrap(self.ask_view), name=f"{name}_ask"),
            path("do/<slug:verb>/", wrap(self.do_view), name=f"{name}_do"),
            *super().get_urls(),
        ]

    def ask_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Ask about one delivery."""
        if (refusal := self._refusal(request, verb)) is not None:
            return refusal
        delivery = self.get_object(request, request.POST.get("delivery", ""))
        if delivery is None:
            raise Http404
        one = self.get_queryset(request).filter(pk=delivery.pk)
        back = self.page_of(delivery.pk)
        return self.question(request, VERBS[verb], Choice.freeze(verb, one, back=back))

    def do_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Do what was asked about, to what was asked about."""
        if (refusal := self._refusal(request, verb)) is not None:
            return refusal
        choice = Choice.returned(request, verb)
        if choice is None:
            text = _("Nothing was done: the question was not yours, or older than an hour.")
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(self.list_url())
        reason = request.POST.get("reason", "").replace("\x00", "").strip()
        if VERBS[verb].needs_reason and not reason:
            error = _("Say why: it is shown to whoever asks later what became of them.")
            return self.question(request, VERBS[verb], choice, error)
        self._do(request, VERBS[verb], choice, reason)
        return HttpResponseRedirect(choice.back, status=HTTPStatus.SEE_OTHER)

    def _do(self, request: HttpRequest, verb: Verb, choice: Choice, reason: str) -> None:
        # A second click, or a page that is sent again, would replay everything once more.
        if not verb.is_repeatable and not choice.is_answered_first(request):
            self.message_user(request, _("This was done already."), messages.WARNING)
            return
        try:
            operation = verb.run(choice.ids, by=request.user.get_username(), reason=reason)
        except OperationError as exc:
            self.message_user(request, str(exc), messages.ERROR)
        else:
            self._tell(request, choice, operation)

    def _refusal(self, request: HttpRequest, verb: str) -> HttpResponse | None:
        if verb not in VERBS:
            raise Http404
        if not self.may(request, VERBS[verb]):
            raise PermissionDenied
        return None if request.method == "POST" else HttpResponseNotAllowed(["POST"])

    def _tell(self, request: HttpRequest, choice: Choice, operation: Operation) -> None:
        text = outcome_of(operation)
        level = messages.SUCCESS if operation.changed else messages.WARNING
        self.message_user(request, text, level)
        about: Any = operation
        if len(choice.ids) == 1:
            about = self.get_queryset(request).filter(pk=choice.ids[0]).first() or operation
        # Django's history has one line; the operation has one for each delivery.
        self.log_change(request, about, f"{operation.get_verb_display()}: {text}")

    def page_of(self, key: object) -> str:
        """Return the path of the page of one delivery."""
        raise NotImplementedError

    def list_url(self) -> str:
        """Return the path of the list."""
        raise NotImplementedError
