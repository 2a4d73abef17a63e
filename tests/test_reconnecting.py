"""A function may be connected and disconnected all day long."""

import gc

from django.dispatch import Signal

from async_signals import connect
from async_signals.receivers import _Connection

happened = Signal()


def on_event(**kwargs): ...


def connections() -> int:
    gc.collect()
    return sum(type(item) is _Connection for item in gc.get_objects())


def test_connecting_again_and_again_takes_no_memory():
    connect(happened, on_event)
    before = connections()
    for _ in range(100):
        assert happened.disconnect(on_event)
        connect(happened, on_event)
        connect(happened, on_event)  # Django ignores the second.
    assert connections() <= before
    assert happened.disconnect(on_event)
