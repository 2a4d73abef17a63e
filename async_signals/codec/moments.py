"""
Dates, times and durations, to the microsecond.

Zones of ``zoneinfo`` travel by name, so that daylight saving time is still known on the
other side; fixed offsets as offset and name.
"""

from __future__ import annotations

import datetime as dt
import functools
import pickle
import zoneinfo
from typing import TYPE_CHECKING, Any

from .table import Unsendable, add_tag, add_type, decode_value

if TYPE_CHECKING:
    from .table import Encoder

_UTC = [0, 0, 0]

#: The names of all zones; read once, in some ten milliseconds, when the first of them is met.
_zones = functools.cache(zoneinfo.available_timezones)


def _is_zone(key: str | None) -> bool:
    # The same zones, without and with leap seconds, stand in folders of these names.
    return key is not None and key.removeprefix("posix/").removeprefix("right/") in _zones()


def _is_of_its_name(zone: zoneinfo.ZoneInfo) -> bool:
    """Whether *zone* has the data of its key: ``from_file()`` takes any file under any key."""
    if zone is zoneinfo.ZoneInfo(zone.key):
        return True
    try:
        zone.__reduce__()
    except pickle.PicklingError:  # So does the standard library refuse one from a file.
        return False
    return True


def _encode_zone(value: dt.datetime | dt.time, encoder: Encoder) -> Any:
    zone = value.tzinfo
    if zone is None:
        return None
    if zone is dt.UTC:
        return _UTC
    if type(zone) is zoneinfo.ZoneInfo and _is_zone(zone.key) and _is_of_its_name(zone):
        return zone.key
    if type(zone) is dt.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # Its pickled form.
        return [offset.days, offset.seconds, offset.microseconds, *map(encoder.encode, name)]
    raise Unsendable(
        value, f"expected a zoneinfo or fixed-offset time zone, not {type(zone).__qualname__}"
    )


def _decode_zone(data: Any) -> dt.tzinfo | None:
    if data is None:
        return None
    if data == _UTC:
        return dt.UTC
    if type(data) is str:
        # Only a name that is one: for any other zoneinfo opens files and imports packages.
        if not _is_zone(data):
            raise LookupError(data)
        return zoneinfo.ZoneInfo(data)
    days, seconds, microseconds, *name = data
    return dt.timezone(dt.timedelta(days, seconds, microseconds), *map(decode_value, name))


def _encode_datetime(value: dt.datetime, encoder: Encoder) -> Any:
    zone = _encode_zone(value, encoder)  # First: a zone that may not travel is not asked either.
    text = value.isoformat()[: 26 if value.microsecond else 19]  # Without the offset.
    return {"$": "datetime", "v": [text, zone, value.fold]}


def _encode_time(value: dt.time, encoder: Encoder) -> Any:
    zone = _encode_zone(value, encoder)
    text = value.isoformat()[: 15 if value.microsecond else 8]
    return {"$": "time", "v": [text, zone, value.fold]}


def _encode_date(value: dt.date, encoder: Encoder) -> Any:
    return {"$": "date", "v": value.isoformat()}


def _encode_timedelta(value: dt.timedelta, encoder: Encoder) -> Any:
    return {"$": "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _decode_datetime(data: Any) -> dt.datetime:
    text, zone, fold = data
    return dt.datetime.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


def _decode_time(data: Any) -> dt.time:
    text, zone, fold = data
    return dt.time.fromisoformat(text).replace(tzinfo=_decode_zone(zone), fold=fold)


def _decode_timedelta(data: Any) -> dt.timedelta:
    days, seconds, microseconds = data
    return dt.timedelta(days, seconds, microseconds)


add_type(dt.datetime, _encode_datetime)
add_type(dt.time, _encode_time)
add_type(dt.date, _encode_date)
add_type(dt.timedelta, _encode_timedelta)
add_tag("datetime", _decode_datetime)
add_tag("time", _decode_time)
add_tag("date", dt.date.fromisoformat)
add_tag("timedelta", _decode_timedelta)
