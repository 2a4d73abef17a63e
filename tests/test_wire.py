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

import django
import pytest
from django.apps import apps
from django.db import models
from django.db.models.expressions import DatabaseDefault

from async_signals import codec
from async_signals.codec import table
from async_signals.wire.envelope import READABLE_VERSIONS, Envelope, unbundled, unpack
from tests import golden
from tests.codec.known import same
from tests.testapp.fields import Money
from tests.testapp.models import Article, Coin, LoudQuerySet, Product, Song, Story, Tag

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
        Envelope(sent=fields.pop("sent_at"), **fields) for fields in golden["envelopes"]
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_golden_bundle_is_read(version) -> None:
    """What the ledger keeps of one: lines, of which some have no ids yet."""
    golden = json.loads((FOLDER / "bundle" / f"{version}.json").read_text())
    envelopes = [
        Envelope(sent=fields.pop("sent_at"), chain=tuple(fields.pop("chain")), **fields)
        for fields in golden["envelopes"]
    ]
    read = unbundled(golden["text"], len(envelopes))

    assert [each._replace(id="") for each in read] == envelopes
    assert all(each.id for each in read)


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


def kwargs_of(name: str) -> dict:
    [envelope] = read(name)
    return envelope.kwargs


def written(arguments, **how) -> dict:
    """Return the JSON of *arguments* that this release writes."""
    return json.loads(json.dumps(codec.encode(arguments, receiver="r", **how)))


def test_the_other_types_are_rebuilt() -> None:
    """Each arrives, and is written today as it was then."""
    sent = kwargs_of("v1/types.json")
    got = codec.decode(sent)

    assert got.keys() == golden.TYPES.keys()
    for name, value in golden.TYPES.items():
        assert same(got[name], value), name
    assert written(golden.TYPES) == sent


@pytest.mark.django_db
def test_the_rows_are_rebuilt() -> None:
    """Instances in both forms, keys and values of their fields' own, a file, a queryset."""
    Article.objects.create(pk=3, title="kept")
    Coin.objects.create(pk=Money(5))
    for pk, title in enumerate("ab", start=1):
        Song.objects.create(pk=pk, title=title)
    sent = kwargs_of("v1/rows.json")
    got = codec.decode(sent)

    assert (got["article"].title, got["article"].sent.title) == ("kept", "kept")
    assert got["coin"].pk == got["coin"].sent.pk == Money(5)
    new = got["new"]
    assert (new.price, new.data) == (Money(7), models.Value(None, models.JSONField()))
    assert (type(new.stock), new._state.adding) == (DatabaseDefault, True)
    assert (got["file"].name, type(got["file"].instance)) == ("a.txt", Product)
    assert [song.title for song in got["songs"]] == ["b", "a"]
    assert type(got["songs"]) is LoudQuerySet
    assert written(golden.rows(), instance="both") == sent


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has tasks since 6.0")
def test_the_tasks_are_rebuilt() -> None:
    """A task's result, with the task and its errors."""
    sent = kwargs_of("v1/tasks.json")

    assert codec.decode(sent) == {"task_result": golden.RESULT}
    assert written({"task_result": golden.RESULT}) == sent


def tags_in(data) -> set[str]:
    """Return the tags in the JSON of a message."""
    if isinstance(data, list):
        return set().union(*map(tags_in, data))
    if not isinstance(data, dict):
        return set()
    return tags_in([*data.values()]) | ({data["$"]} if "$" in data else set())


def test_every_tag_has_a_golden_file() -> None:
    """What is written now is read for ever: a new tag comes with a message that has it."""
    found = set()
    for file in FILES:
        for envelope in unpack(json.loads(file.read_text())["wire"]):
            found |= tags_in([envelope.sender, envelope.kwargs])
    known = {tag for tag in table._by_tag if "." not in tag}  # Those with a dot are a site's.

    assert known - found == set()
    assert "field" in found  # Read by snapshots alone.
