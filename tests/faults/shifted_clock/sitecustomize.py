# ruff: noqa: INP001  (it is a folder of the path)
"""
The clock of one host, minutes off: on the path of a process, this moves its ``time`` and dates.

Python imports a module of this name at its start, before anything has taken a reference.
"""

import datetime  # noqa: ICN001  (it is what is changed)
import os
import time

SHIFT = float(os.environ.get("ASYNC_SIGNALS_TEST_SHIFT", "0"))

_time, _time_ns = time.time, time.time_ns
_real = datetime.datetime


class _Type(type(_real)):
    def __instancecheck__(cls, instance):
        return isinstance(instance, _real)


class ShiftedDateTime(_real, metaclass=_Type):
    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls):
        return _real.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=SHIFT)


if SHIFT:
    time.time = lambda: _time() + SHIFT
    time.time_ns = lambda: _time_ns() + int(SHIFT * 1_000_000_000)
    datetime.datetime = ShiftedDateTime
