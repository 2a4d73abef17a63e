"""Where nothing uses the database there is no transaction to wait for, and nothing to open."""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.dispatch import Signal

happened = Signal()


def on_event(**kwargs): ...


def send() -> bool:
    happened.send(sender=None)
    return connection.connection is not None


async def send_in_a_coroutine() -> bool:
    return send()


@pytest.mark.parametrize("send", [send, lambda: asyncio.run(send_in_a_coroutine())])
def test_event_opens_no_connection(send, connect, sent):
    connect(happened, on_event)
    with ThreadPoolExecutor(1) as pool:  # A thread of its own, so without connections yet.
        opened = pool.submit(contextvars.copy_context().run, send).result()
    assert not opened
    assert len(sent) == 1
