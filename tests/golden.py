"""
What the golden files of ``tests/wire`` say, and the classes that they name.

Files and values belong together: neither is changed, nor is a class moved or renamed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import pathlib
import typing
from collections import OrderedDict

import django
from django.contrib.auth.models import AnonymousUser
from django.db.models import DEFERRED, JSONField, Value
from django.utils.safestring import SafeString

from tests.testapp.fields import Money
from tests.testapp.models import Article, Coin, Product, Song


class Colour(enum.Enum):
    RED = 1


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


class Pair(typing.NamedTuple):
    left: int
    right: int


#: ``v1/types.json``.
TYPES = {
    "largest_plain": 2**53 - 1,
    "smallest_plain": -(2**53) + 1,
    "larger": 2**53,
    "smaller": -(2**53),
    "halves": "\ud83d\ude00 and \U0001f600",
    "safe": SafeString("<b>"),
    "safe_halves": SafeString("\ud83d\ude00"),
    "posix": pathlib.PurePosixPath("a/b"),
    "windows": pathlib.PureWindowsPath("c:\\x"),
    "range": range(10, -3, -2),
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "member": Colour.RED,
    "flags": Permission.READ | Permission.WRITE,
    "point": Point(1, Point(2)),
    "pair": Pair(1, 2),
    "nobody": AnonymousUser(),
    "deferred": DEFERRED,
    "named_zone": dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
}


def new_product(**fields) -> Product:
    product = of(Product, **fields)
    product._state.adding = True
    return product


def of(model, **fields):
    """Return an instance with no fields but these, whatever fields the model may get."""
    return model.from_db("default", [*fields], [*fields.values()])


def rows() -> dict[str, object]:
    """Return the values of ``v1/rows.json``, whose rows exist."""
    return {
        "article": of(Article, id=3, title="kept"),
        "coin": of(Coin, id=Money(5)),
        "new": new_product(price=Money(7), data=Value(None, JSONField()), stock=Product().stock),
        "file": new_product(manual="a.txt").manual,
        "songs": Song.shouted.order_by("-pk"),
    }


if django.VERSION >= (6, 0):
    from django.tasks import TaskResult, task
    from django.tasks.base import TaskError, TaskResultStatus

    @task
    def halve(number):
        return number / 2

    #: ``v1/tasks.json``.
    RESULT = TaskResult(
        task=halve,
        id="7",
        status=TaskResultStatus.FAILED,
        enqueued_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=["x"],
        kwargs={},
        backend="default",
        errors=[TaskError(exception_class_path="builtins.TypeError", traceback="Traceback")],
        worker_ids=["w"],
    )
