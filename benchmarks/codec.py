"""
What it costs to turn signal arguments into JSON text and back: ``python -m benchmarks.codec``.

Beside kombu's JSON, pickle and Django's serializers, in one process, in rounds that alternate, so
that all of them meet the same disturbances. No side fetches rows: what decodes a reference is
given the instance.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import pickle
import statistics
import time
import uuid

import django
from django.conf import settings

ROUNDS, CALLS = 41, 400

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "async_signals"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="only for benchmarks",
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core import serializers  # noqa: E402
from kombu.utils import json as kombu_json  # noqa: E402

from async_signals import codec  # noqa: E402
from async_signals.codec import instances  # noqa: E402
from async_signals.wire.envelope import _encode as dumps  # noqa: E402

MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
USER = User(id=7, username="ann", email="a@b.c", password="x" * 80, last_login=MOMENT)
USER.date_joined = MOMENT
USER._state.adding, USER._state.db = False, "default"

COLUMNS = [field.name for field in User._meta.concrete_fields]

#: As ``post_save`` has it, with two more arguments of a site's own.
SAVED = {
    "instance": USER,
    "created": True,
    "update_fields": ["email", "username"],
    "using": "default",
    "at": MOMENT,
    "request_id": uuid.UUID(int=7),
}
LIST = {"items": [{"id": i, "price": decimal.Decimal("9.90"), "at": MOMENT} for i in range(100)]}


def encode(arguments, **how):
    return dumps(codec.encode(arguments, receiver="r", **how))


def decode(text):
    return codec.decode(json.loads(text))


def without_fetching():
    """Give both sides the instance that a fetch would."""
    instances._fetch = lambda model, alias, pk: USER
    kombu_json.register_type(
        User,
        "auth.user",
        lambda user: {"label": user._meta.label_lower, "pk": user.pk, "using": user._state.db},
        lambda data: USER,
    )


def cases():
    """Yield case, side, and the functions that encode and decode, with what they are given."""
    kombu = kombu_json.dumps, kombu_json.loads
    pickled = (lambda value: pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), pickle.loads
    reference = "a reference and five scalars"
    yield reference, "async_signals", encode, decode, SAVED
    yield reference, "kombu.utils.json", *kombu, SAVED
    yield reference, "pickle (whole instance)", *pickled, SAVED
    snapshot = "a snapshot of 11 columns"
    yield snapshot, "async_signals", snapshot_of, decode, {"instance": USER}
    yield snapshot, "django.core.serializers", serialize, deserialize, USER
    yield snapshot, "pickle", *pickled, {"instance": USER}
    many = "a list of 100 dicts"
    yield many, "async_signals", encode, decode, LIST
    yield many, "kombu.utils.json", *kombu, LIST
    yield many, "pickle", *pickled, LIST


def snapshot_of(arguments):
    return encode(arguments, instance="snapshot")


def serialize(instance):
    return serializers.serialize("json", [instance], fields=COLUMNS)  # No many-to-many: it queries.


def deserialize(text):
    return next(iter(serializers.deserialize("json", text))).object


def microseconds(function, value, calls):
    begun = time.process_time()  # Of this process alone, whatever else the machine does.
    for _ in range(calls):
        function(value)
    return (time.process_time() - begun) / calls * 1e6


def main():
    without_fetching()
    sides = list(cases())
    taken = {(case, side): ([], []) for case, side, *_ in sides}
    for _ in range(ROUNDS):
        for case, side, write, read, value in sides:
            calls = CALLS // 20 if value is LIST else CALLS
            taken[case, side][0].append(microseconds(write, value, calls))
            taken[case, side][1].append(microseconds(read, write(value), calls))
    first = {}
    print("| case | by | encode, µs | decode, µs | both, µs | ratio | bytes |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for case, side, write, _, value in sides:
        there, back = map(statistics.median, taken[case, side])
        ratio = (there + back) / first.setdefault(case, there + back)
        size = len(write(value))
        print(
            f"| {case} | {side} | {there:.1f} | {back:.1f} | {there + back:.1f} "
            f"| {ratio:.2f} | {size} |"
        )


if __name__ == "__main__":
    main()
