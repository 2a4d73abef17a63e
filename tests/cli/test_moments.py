"""Times are typed as people say them, and shown in one unit."""

from __future__ import annotations

import argparse
import datetime as dt

import pytest
from django.utils import timezone

from async_signals.cli.moments import age, duration, moment

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("4w", 2_419_200)],
)
def test_durations(text, seconds) -> None:
    """A number and a unit, from seconds to weeks."""
    assert duration(text) == dt.timedelta(seconds=seconds)
    assert timezone.now() - moment(text) - duration(text) < dt.timedelta(seconds=5)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "1.5h", "2 hours", "9999999999d"])
def test_what_is_none(text) -> None:
    """Anything else is refused, with examples."""
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        duration(text)
    assert str(caught.value) == (
        f"cannot read the time {text!r}: expected a number and a unit, as in 90s, 30m, 2h, 7d."
    )


@pytest.mark.parametrize("text", ["36526d", "999999w"])
def test_what_is_longer_than_a_century(text) -> None:
    """Dates do not go back that far."""
    with pytest.raises(argparse.ArgumentTypeError, match="expected at most 36525d, got: "):
        duration(text)
    with pytest.raises(argparse.ArgumentTypeError, match="cannot read the time"):
        moment(text)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("text", ["9999-12-31T23:59", "0001-01-01", "9999-12-31T23:59-12:00"])
def test_dates_that_databases_do_not_have(text, zone) -> None:
    """The ends of the calendar overflow in a time zone; they are told like any other mistake."""
    with timezone.override(zone), pytest.raises(argparse.ArgumentTypeError) as caught:
        moment(text)
    assert str(caught.value) == (
        f"cannot take the time {text!r}: expected one at most 36525d away, got: the year "
        f"{int(text[:4])}."
    )


def test_dates() -> None:
    """A date begins at midnight of the site's time zone; a time may carry its own."""
    with timezone.override("Europe/Athens"):
        assert moment("2026-01-31").isoformat() == "2026-01-31T00:00:00+02:00"
    assert moment("2026-01-31T12:00+00:00") == NOW


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s ago"), (59, "59s ago"), (3_700, "1h ago"), (-90, "in 1m"), (864_000, "10d ago")],
)
def test_ages(seconds, shown) -> None:
    """One unit, the largest that fits, in the past or ahead."""
    assert age(NOW - dt.timedelta(seconds=seconds), NOW) == shown
    assert age(None, NOW) == "-"
