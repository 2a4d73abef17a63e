"""
Throw at the decoder what no sender wrote, guided by coverage: ``nox -s fuzz -- seconds``.

It ends at the first input that raises anything but the documented errors, imports a module,
takes longer than five seconds or more than a gigabyte. What it finds becomes a test.
"""

from __future__ import annotations

import json
import os
import sys

import atheris

for _service in ("POSTGRESQL", "MARIADB"):
    os.environ[f"ASYNC_SIGNALS_TEST_{_service}_PORT"] = "1"  # SQLite only: nothing is listening.
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.testproject.settings"

with atheris.instrument_imports(include=["async_signals"]):
    import async_signals
    from async_signals import codec, executor
    from async_signals.wire import envelope, signing

import django  # noqa: E402  (after what is to be instrumented)

django.setup()

from django.dispatch import Signal  # noqa: E402

from async_signals.codec import table  # noqa: E402
from tests.codec.known import WORDS, messages, warm_up  # noqa: E402

DOCUMENTED = (
    async_signals.DecodeError,
    async_signals.EnvelopeError,
    async_signals.MissingInstanceError,
)
SIGNAL = Signal()
DELIVERY = {
    "id": "1",
    "event": "0",
    "signal": None,
    "sent_at": "2026-01-02T03:04:05+00:00",
    "sender": None,
    "kwargs": {},
}
TAGS = [*table._by_tag, "nobody knows"]
SENT = messages()


def nothing(**kwargs: object) -> None:
    """Take whatever is left of a message."""


async_signals.connect(SIGNAL, nothing, name="nothing")


def execute(body: str) -> None:
    """Run a receiver that does nothing for a message that says *body*."""
    executor.execute(signed(body), name="nothing")


def value(data: atheris.FuzzedDataProvider, depth: int = 0) -> object:
    """Build any JSON, with our tags in it more often than not."""
    what = data.ConsumeIntInRange(0, 6 if depth > 6 else 10)
    if what == 0:
        return data.PickValueInList([None, True, False])
    if what == 1:
        return data.ConsumeInt(data.ConsumeIntInRange(1, 12))
    if what == 2:
        return data.ConsumeFloat()
    if what == 3:
        return data.ConsumeUnicode(20)
    if what == 4:
        return data.ConsumeUnicodeNoSurrogates(40)
    if what in (5, 6):
        return data.PickValueInList(WORDS)
    count = data.ConsumeIntInRange(0, 5)
    if what == 7:
        return [value(data, depth + 1) for _ in range(count)]
    if what == 8:
        keys = [data.PickValueInList(WORDS) for _ in range(count)]
        return {str(key): value(data, depth + 1) for key in keys}
    return {"$": data.PickValueInList(TAGS), "v": value(data, depth + 1)}


def bent(data: atheris.FuzzedDataProvider, sent: object) -> object:
    """Build what a sender wrote, but for a few places."""
    if data.ConsumeIntInRange(0, 9) == 9:
        return value(data, 5)
    if isinstance(sent, list):
        return [bent(data, item) for item in sent]
    if isinstance(sent, dict):
        return {key: bent(data, item) for key, item in sent.items()}
    return sent


def throw(raw: bytes) -> None:
    """Read one input in each way in which a message is read."""
    data = atheris.FuzzedDataProvider(raw)
    sent = data.PickValueInList([None, *SENT])
    built = json.loads(json.dumps(value(data) if sent is None else bent(data, sent)))
    key = data.PickValueInList([*DELIVERY])
    called = {"v": 1, "receiver": "nothing", "deliveries": [{**DELIVERY, key: built}]}
    given_to = {**called, "deliveries": [{**DELIVERY, "kwargs": {"number": built}}]}
    text = data.ConsumeUnicode(sys.maxsize)
    modules = {*sys.modules}
    for read, given in (
        (codec.decode, built),
        (envelope.unpack, text),
        (envelope.unpack, signed(text)),
        (envelope.unpack, signed(json.dumps(built))),
        (execute, json.dumps(called)),
        (execute, json.dumps(given_to)),
    ):
        try:
            read(given)
        except DOCUMENTED:
            continue
    imported = {*sys.modules} - modules
    if imported:
        raise AssertionError(f"cannot decode without importing: expected nothing, got: {imported}")


def signed(body: str) -> str:
    """Sign *body* as a sender would that has the key and no sense."""
    return signing.sign(body)


if __name__ == "__main__":
    from django.core.management import call_command

    for alias in ("default", "other"):
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    warm_up()
    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=1024"], throw)
    atheris.Fuzz()
