"""
Golden files: messages that an earlier release has written, which must be read for ever.

Each file of ``tests/wire`` holds a message as it travelled, signed with ``KEY`` (one of them
encrypted with ``ENCRYPTION_KEY``), and what it says. Files are added when the wire form grows,
and never changed: a release that cannot read one would lose what waits in somebody's queue.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import pathlib
import uuid
import zoneinfo

import pytest
from django.apps import apps

from async_signals import codec
from async_signals.envelope import READABLE_VERSIONS, Envelope, unpack
from tests.testapp.models import Article, Story, Tag

KEY = "the key of the golden files"
ENCRYPTION_KEY = "Z29sZGVuIGtleSBvZiB0aGUgdGVzdHMsIDMyIGJ5dGU="
FOLDER = pathlib.Path(__file__).parent / "wire"
FILES = sorted(FOLDER.glob("v*/*.json"))


@pytest.fixture(autouse=True)
def _key(settings) -> None:
    settings.SECRET_KEY = KEY
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [ENCRYPTION_KEY]}


def read(name: str) -> list[Envelope]:
    return unpack(json.loads((FOLDER / name).read_text())["wire"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_golden_file_is_read(file) -> None:
    """The signature fits, and every field of each envelope is what it was."""
    golden = json.loads(file.read_text())

    assert unpack(golden["wire"]) == [
        Envelope(**{**fields, "sent_at": dt.datetime.fromisoformat(fields["sent_at"])})
        for fields in golden["envelopes"]
    ]


def test_there_are_files_of_every_version() -> None:
    """A version that is still read has messages that prove it."""
    assert {int(file.parent.name[1:]) for file in FILES} == READABLE_VERSIONS


def test_the_values_are_rebuilt() -> None:
    """Each type that travels, from the JSON of the golden file."""
    [envelope] = read("v1/values.json")

    got = {name: codec.decode(value) for name, value in envelope.kwargs.items()}

    paris = zoneinfo.ZoneInfo("Europe/Paris")
    expected = {
        "nothing": None,
        "truth": True,
        "big": 2**80,
        "infinite": float("-inf"),
        "text": 'snow "\N{SNOWMAN}"',
        "bytes": b"\x00\xff",
        "nested": {"a": [1, (2, {3}), frozenset({4})]},
        "keys": {1: "one", (2, 3): "pair"},
        "posing": {"$": "int", "v": "0x1"},
        "moment": dt.datetime(2026, 10, 25, 2, 30, 0, 7, tzinfo=paris, fold=1),
        "day": dt.date(2026, 2, 28),
        "time": dt.time(1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=-3))),
        "span": dt.timedelta(days=-1, microseconds=5),
        "price": decimal.Decimal("10.50"),
        "uuid": uuid.UUID(int=7),
        "model": Story,
        "function": json.dumps,
        "app": apps.get_app_config("testapp"),
    }
    assert got == expected
    assert {name: type(value) for name, value in got.items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert (got["moment"].fold, got["moment"].tzinfo) == (1, paris)


@pytest.mark.django_db
def test_the_instances_are_rebuilt() -> None:
    """By reference where there is a row, by its fields where there is none."""
    [saved, deleted] = read("v1/instances.json")
    tag = Tag.objects.create(pk=7, name="now")

    assert codec.decode(saved.sender) is Tag
    assert codec.decode(saved.kwargs["instance"]) == tag
    assert codec.decode(saved.kwargs["instance"]).name == "now"
    article = codec.decode(deleted.kwargs["instance"])
    assert (type(article), article.pk, article.title) == (Article, 3, "gone")
    assert (article.price, article._state.adding) == (decimal.Decimal("1.50"), False)
    assert list(codec.decode(deleted.kwargs["origin"])) == []
    assert saved.signal == "django.db.models.signals.post_save"
