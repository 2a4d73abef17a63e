"""Times as people type and read them."""

from __future__ import annotations

import argparse
import datetime as dt
import re

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

__all__ = ["age", "duration", "moment"]

#: A century: further back there is nothing, and databases have no dates before year 1.
LONGEST = dt.timedelta(days=36_525)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def duration(text: str) -> dt.timedelta:
    """
    Return what "90s", "30m", "2h", "7d" or "4w" means.

    Raises:
        ArgumentTypeError: It is none of these.
    """
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(
            f"cannot read the time {text!r}: expected a number and a unit, as in 90s, 30m, 2h, 7d."
        )
    known = dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
    if known > LONGEST:
        raise argparse.ArgumentTypeError(
            f"cannot take the time {text!r}: expected at most {LONGEST.days}d, got: {known.days}d."
        )
    return known


def moment(text: str) -> dt.datetime:
    """
    Return the aware time that *text* means: so long ago, or a date, with or without a time.

    Raises:
        ArgumentTypeError: It is none of these, or more than a century away.
    """
    now = timezone.now()
    try:
        return now - duration(text)
    except argparse.ArgumentTypeError:
        pass
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)) is not None:
            found = dt.datetime.combine(day, dt.time())
    except ValueError:
        found = None
    if found is None:
        raise argparse.ArgumentTypeError(
            f"cannot read the time {text!r}: expected how long ago, as in 2h, or a date, as in "
            "2026-01-31 or 2026-01-31T12:00."
        )
    # Before it is put into a time zone, which for the last and the first days there are overflows.
    if abs(found.replace(tzinfo=dt.UTC) - now) > LONGEST:
        raise argparse.ArgumentTypeError(
            f"cannot take the time {text!r}: expected one at most {LONGEST.days}d away, got: the "
            f"year {found.year}."
        )
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def age(then: dt.datetime | None, now: dt.datetime) -> str:
    """Return how long ago *then* is, or in how long it will be, in its largest unit."""
    if then is None:
        return "-"
    seconds = (now - then).total_seconds()
    size, unit = next((step for step in _STEPS if abs(seconds) >= step[0]), _STEPS[-1])
    words = f"{int(abs(seconds) // size)}{unit}"
    return f"{words} ago" if seconds >= 0 else f"in {words}"
