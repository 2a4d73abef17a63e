"""
The secret values of a delivery: what its arguments and the frames of its error hold under a name.

Looks only where looking runs no code of the site: no ``str()``, ``repr()`` or ``==`` of its
objects, no attribute that is computed, no field that is not loaded. All work is bounded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import types
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from django.db.models import Model

from .chains import chain, tracebacks
from .forms import BYTES, NUMBERS, texts_of
from .variables import declared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["find", "named"]

#: Objects that are looked into, in the arguments and in the frames; the nearest first.
_MAX_IN_ARGUMENTS, _MAX_IN_FRAMES = 20_000, 5_000
#: Items of one container, and levels.
_MAX_ITEMS, _MAX_DEPTH = 5_000, 12
#: Secret values, and characters of all in all their forms.
_MAX_VALUES, _MAX_TOTAL = 1_000, 2_000_000
#: Keys of dicts that hold the name of what is called "value".
_LABELS = ("name", "key", "header")
#: Levels at which objects are looked into that are no data: what is behind ``self``.
_MAX_BEHIND = 3

#: Never looked into: code, not data.
_CODE = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType,
    types.CodeType, types.FrameType, types.TracebackType,
)  # fmt: skip
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset)
#: Hold nothing that has a name.
_LEAVES = frozenset({str, bool, type(None), *NUMBERS, *BYTES, uuid.UUID})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One object on the way through what a delivery holds."""

    value: Any
    depth: int  #: Levels that it is inside.
    secret: bool  #: It stands under a secret name, at any level.


def find(
    is_sensitive: Callable[[str], bool],
    kwargs: Mapping[str, object] | None,
    exc: BaseException | None,
) -> set[str]:
    """Return the secret texts, each in all its forms; never raises."""
    texts: set[str] = set()
    arguments = _Found(value=kwargs, depth=0, secret=False)
    with contextlib.suppress(Exception):
        arguments = dataclasses.replace(arguments, value=dict(kwargs or {}))
    _collect([arguments], is_sensitive, texts, _MAX_IN_ARGUMENTS)
    _collect(_frames(exc), is_sensitive, texts, _MAX_IN_FRAMES)
    return texts


def _frames(exc: BaseException | None) -> Iterator[_Found]:
    """Yield the local variables of each frame, the innermost first, and what errors carry."""
    for error in () if exc is None else chain(exc):
        for entry in reversed(tracebacks(error)):
            with contextlib.suppress(Exception):
                variables, secret = declared(entry.tb_frame)
                yield _Found(value=secret, depth=0, secret=True)
                yield _Found(value=variables, depth=0, secret=False)
        yield _Found(value=error, depth=0, secret=False)
        with contextlib.suppress(Exception):
            yield _Found(value=error.args, depth=0, secret=False)


def _collect(
    objects: Iterable[_Found],
    is_sensitive: Callable[[str], bool],
    texts: set[str],
    limit: int,
) -> None:
    waiting = deque(objects)
    # What is looked at lives as long as the walk, so that no address is used twice.
    seen: dict[tuple[int, bool], object] = {}
    values = total = 0
    while waiting and len(seen) < limit and values < _MAX_VALUES and total < _MAX_TOTAL:
        found = waiting.popleft()
        key = (id(found.value), found.secret)
        if key in seen:
            continue
        seen[key] = found.value
        # A hostile object ends nothing but the look at itself.
        with contextlib.suppress(Exception):
            forms = texts_of(found.value) if found.secret else None
            if forms:
                texts |= forms
                values, total = values + 1, total + sum(map(len, forms))
            elif len(waiting) < limit:
                waiting.extend(_next(found, is_sensitive))


def _next(found: _Found, is_sensitive: Callable[[str], bool]) -> Iterator[_Found]:
    """Yield what is in *found* and may be a secret or hold one."""
    if found.depth >= _MAX_DEPTH:
        return
    for name, value in itertools.islice(_inside(found.value, found.depth), _MAX_ITEMS):
        secret = found.secret or (name is not None and is_sensitive(name))
        if secret or type(value) not in _LEAVES:
            yield _Found(value=value, depth=found.depth + 1, secret=secret)


def _inside(value: Any, depth: int) -> Iterator[tuple[str | None, Any]]:
    """Yield what *value* holds, with its name where it has one."""
    kind = type(value)
    # By the type itself: isinstance() asks the object, and a lazy one would query.
    if issubclass(kind, dict):
        # At one stroke: another thread may change it.
        items = [(_name(key), item) for key, item in list(dict.items(value))]
        yield from items
        yield from named(items)
    elif issubclass(kind, tuple) and type(fields := getattr(kind, "_fields", None)) is tuple:
        yield from zip(fields, tuple.__iter__(value), strict=False)
    elif base := next((base for base in _SEQUENCES if issubclass(kind, base)), None):
        items = list(base.__iter__(value))
        if len(items) == 2:  # A header, or an item of a dict.
            yield _name(items[0]), items[1]
        yield from ((None, item) for item in items)
    elif issubclass(kind, types.MappingProxyType):
        yield from ((None, mapping) for mapping in gc.get_referents(value))
    elif issubclass(kind, (str, *BYTES, *NUMBERS, *_CODE)):
        return
    elif depth <= _MAX_BEHIND or issubclass(kind, Model) or dataclasses.is_dataclass(kind):
        yield from _attributes(value)


def named(items: Iterable[tuple[str | None, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of *items* such as those of ``{"name": "Cookie", "value": "a=b"}``."""
    by_key = {key.lower(): item for key, item in items if key is not None and len(key) <= 6}
    if "value" in by_key:
        for label in _LABELS:
            if issubclass(type(name := by_key.get(label)), str):
                yield str.__str__(name), by_key["value"]


def _attributes(value: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield what *value* has: loaded fields, attributes, slots; nothing that is computed."""
    with contextlib.suppress(AttributeError):
        held = object.__getattribute__(value, "__dict__")
        if type(held) is dict:
            yield from list(held.items())
    for base in type(value).__mro__:
        for name, member in list(vars(base).items()):
            if type(member) is types.MemberDescriptorType:
                with contextlib.suppress(AttributeError):
                    yield name, member.__get__(value)


def _name(key: Any) -> str | None:
    if issubclass(type(key), str):
        return str.__str__(key)
    return key.decode("latin-1") if type(key) is bytes else None
