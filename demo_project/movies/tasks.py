from __future__ import annotations

import datetime as dt

from celery import shared_task
from django.core.mail import mail_admins
from django.utils import timezone

from .models import SearchTerm


@shared_task
def mail_search_statistics() -> None:
    """Tell the admins what was searched for in the last day; beat calls it every morning."""
    since = timezone.now() - dt.timedelta(days=1)
    terms = SearchTerm.objects.filter(last_searched_at__gte=since)
    lines = [
        f"Terms searched for: {terms.count()}",
        f"New among them: {terms.filter(created_at__gte=since).count()}",
        "",
        *(f"{term.searches:6} x {term.term}" for term in terms.order_by("-searches")[:10]),
    ]
    mail_admins("Search Statistics", "\n".join(lines))
