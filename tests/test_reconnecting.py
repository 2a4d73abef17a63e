"""A function may be connected and disconnected all day long."""

import gc

from django.dispatch import Signal

from async_signals import connect

happened = Signal()


def on_event(**kwargs): ...


def objects_of_ours() -> int:
    gc.collect()
    return sum(str(type(item).__module__).startswith("async_signals") for item in gc.get_objects())


def test_connecting_again_and_again_takes_no_memory():
    connect(happened, on_event)
    before = objects_of_ours()
    for _ in range(100):
        assert happened.disconnect(on_event)
        connect(happened, on_event)
        connect(happened, on_event)  # Django ignores the second.
    assert objects_of_ours() <= before
    assert happened.disconnect(on_event)
