"""Times and durations, in words that fit into a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    import datetime as dt

    from django.utils.safestring import SafeString

__all__ = ["ago", "exactly", "lasting", "until"]

MINUTE, HOUR, DAY = 60, 3600, 86_400


def lasting(seconds: float) -> str:
    """Return a duration: "40 ms", "1.8 s", "41 s", "2 min", "3 h", "5 d"."""
    if seconds < 1:
        return _("%(number)d ms") % {"number": round(seconds * 1000)}
    if seconds < 10:
        return _("%(number).1f s") % {"number": seconds}
    if seconds < 2 * MINUTE:
        return _("%(number)d s") % {"number": seconds}
    if seconds < 2 * HOUR:
        return _("%(number)d min") % {"number": seconds // MINUTE}
    if seconds < 2 * DAY:
        return _("%(number)d h") % {"number": seconds // HOUR}
    return _("%(number)d d") % {"number": seconds // DAY}


def until(moment: dt.datetime) -> str:
    """Return "in 41 s", or "now" where that is over."""
    left = (moment - timezone.now()).total_seconds()
    return _("in %(duration)s") % {"duration": lasting(left)} if left >= 1 else _("now")


def ago(moment: dt.datetime) -> str:
    """Return "41 s ago"."""
    over = max(0.0, (timezone.now() - moment).total_seconds())
    return _("%(duration)s ago") % {"duration": lasting(over)}


def exactly(moment: dt.datetime) -> SafeString:
    """Return the moment itself, in the time zone of the site."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    text = f"{date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), text)
