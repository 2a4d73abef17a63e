"""
What is replaced before anything is recorded: secret values, and whatever has a secret's name.

Pure: knows JSON and texts, no tables. Which values are secret in a delivery, ``secrets`` finds.
"""

from __future__ import annotations

import copy
import fnmatch
import functools
import re
from typing import TYPE_CHECKING, Any

from .. import conf
from . import secrets
from .assignments import IN_QUERY, Assignments
from .forms import text_of_number
from .keys import REFERENCES, key_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["MASKED", "Mask", "mask_for", "storable"]

#: What stands where a secret was.
MASKED = "••••"

#: A value with fewer characters than this is replaced only where no letter or digit touches it.
_SURE = 6

#: Levels of JSON that are looked into; twice what the codec writes, with its tags. Deeper: masked.
_MAX_DEPTH = 300

#: Characters of a name that are compared.
_MAX_NAME = 200

#: Characters of JSON that are looked through as one text.
_MAX_SURE = 20_000

#: Names whose answer is remembered.
_MAX_KNOWN = 2_000

#: What neither a database nor JSON takes.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

#: The codec's tags of dicts whose keys are not plain texts: lists of pairs.
_PAIRS = ("dict", "ordereddict")

#: Parts of texts in which something is masked whatever the patterns are.
_ALWAYS, _ALWAYS_ALONE = "private_key___", {"key=": IN_QUERY, "sig=": IN_QUERY}


class Mask:
    """The names and the values that are secret in one delivery; never shows them."""

    __slots__ = ("_alone", "_assignments", "_known", "_names", "_pieces", "_values", "reach")

    def __init__(self, patterns: Iterable[str], values: Iterable[str] = ()) -> None:
        """
        Make a mask of names and values.

        Args:
            patterns: Names, as patterns of ``fnmatch``; upper and lower case are one.
            values: Texts to replace wherever they stand, as ``forms.texts_of()`` gives them.
        """
        patterns = [*patterns]
        parts = [re.split(r"[*?]", _plain(pattern)) for pattern in patterns]
        #: What a text must have for a pattern to match a name in it: anywhere, or as it is there.
        self._pieces = {_ALWAYS, *(max(each, key=len) for each in parts if len(each) > 1)}
        if any("[" in pattern for pattern in patterns):
            self._pieces.add("")  # Any text has it.
        self._alone = {each[0]: _alone(each[0]) for each in parts if len(each) == 1}
        self._alone |= _ALWAYS_ALONE
        translated = [fnmatch.translate(pattern.lower()) for pattern in patterns]
        self._names = re.compile("|".join(translated) or r"(?!)")
        self._known: dict[str, bool] = {}  #: Names that were asked for.
        self._assignments = Assignments(self.is_sensitive, MASKED)
        self._set_values(values)

    def with_values(self, values: Iterable[str]) -> Mask:
        """Return a mask of the same names, which need not be compiled again, and of *values*."""
        mask = copy.copy(self)
        mask._set_values(values)
        return mask

    def _set_values(self, values: Iterable[str]) -> None:
        texts = {storable(value) for value in values} - {""}
        # The longest first: another one may be a part of it.
        self._values = dict.fromkeys(sorted(texts, key=len, reverse=True))
        self.reach = max(map(len, self._values), default=0)  #: Characters of the longest value.

    def is_sensitive(self, name: str) -> bool:
        """Whether what is called *name* is secret; ``X-Api-Key`` is ``x_api_key`` as well."""
        known = self._known.get(name)
        if known is None:
            known = self._is_sensitive(name)
            if len(self._known) < _MAX_KNOWN and len(name) <= _MAX_NAME:
                self._known[name] = known
        return known

    def _is_sensitive(self, name: str) -> bool:
        lowered = name[:_MAX_NAME].lower()
        plain = _plain(lowered)
        # A foreign key has two names: owner and owner_id.
        return any(map(self._names.match, {lowered, plain, plain.removesuffix("_id")}))

    def leaves_alone(self, text: str) -> bool:
        """
        Whether ``view()`` changes nothing in the data whose JSON is *text*, for what it can tell.

        It looks at no keys of rows, whose names the JSON does not have. False: it may.
        """
        if self._values or len(text) > _MAX_SURE or "\\" in text or "://" in text:
            return False
        plain = _plain(text)
        if any(map(plain.__contains__, self._pieces)):
            return False
        for name, alone in self._alone.items():
            if name in plain and alone.search(plain):
                return False
        return text.count("{") + text.count("[") < _MAX_DEPTH

    def view(self, data: Any) -> Any:
        """Return a copy of *data*, JSON as the codec writes it, without what is secret."""
        return self._view(data, _MAX_DEPTH)

    def text(self, text: str) -> str:
        """
        Return *text* without what is secret, and without NUL and lone surrogates.

        Replaces known values, ``name=value``, ``"name": value`` and passwords in URLs.
        """
        return self._assignments.replace(self._without_values(text))

    def source(self, text: str) -> str:
        """Return lines of code without what is secret; ``token = find(x)`` stays as it is."""
        return self._assignments.replace(self._without_values(text), literals_only=True)

    def _without_values(self, text: str) -> str:
        text = storable(text)
        for value in self._values:
            if value in text:
                if len(value) < _SURE:
                    alone = rf"(?<![0-9A-Za-z]){re.escape(value)}(?![0-9A-Za-z])"
                    text = re.sub(alone, MASKED, text)
                else:
                    text = text.replace(value, MASKED)
        return text

    def _view(self, data: Any, depth: int) -> Any:
        kind = type(data)
        if kind is str:
            return self.text(data)
        if kind is int or kind is float:
            return MASKED if text_of_number(data) in self._values else data
        if kind is not dict and kind is not list and kind is not tuple:
            return data
        if depth == 0:
            return MASKED
        if kind is dict:
            if data.get("$") in _PAIRS and type(data.get("v")) is list:
                return {**data, "v": [self._view_pair(pair, depth - 1) for pair in data["v"]]}
            if data.get("$") in REFERENCES and type(data.get("v")) is list:
                return {**data, "v": self._view_reference(data["v"], depth - 1)}
            names = [name for name, _ in secrets.named((str(key), data[key]) for key in data)]
            hides_value = any(map(self.is_sensitive, names))
            return {
                self._without_values(str(key)): MASKED
                if self.is_sensitive(str(key)) or (hides_value and str(key).lower() == "value")
                else self._view(value, depth - 1)
                for key, value in data.items()
            }
        # A header, or an item of a dict: a name and its value.
        if len(data) == 2 and type(data[0]) is str and self.is_sensitive(data[0]):
            return [data[0], MASKED]
        return [self._view(item, depth - 1) for item in data]

    def _view_reference(self, data: list[Any], depth: int) -> list[Any]:
        view = [self._view(item, depth - 1) for item in data]
        # None: it refers to no row.
        if len(data) > 2 and data[2] is not None and self.hides_key(data[0]):
            view[2] = MASKED
        return view

    def hides_key(self, label: object) -> bool:
        """Whether the primary key of the model labelled *label* is secret."""
        return any(map(self.is_sensitive, key_names(label)))

    def _view_pair(self, pair: Any, depth: int) -> Any:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            return self._view(pair, depth)
        key, value = pair
        if any(map(self.is_sensitive, _names_in(key))):
            return [self._view(key, depth), MASKED]
        return [self._view(key, depth), self._view(value, depth)]

    def __repr__(self) -> str:
        return f"<Mask of {len(self._values)} values>"


def mask_for(
    receiver_sensitive: Collection[str],
    kwargs: Mapping[str, object] | None,
    exc: BaseException | None,
) -> Mask:
    """
    Return the mask for one delivery; never raises, never queries, in bounded time.

    Args:
        receiver_sensitive: The receiver's option ``sensitive``, next to the site's patterns.
        kwargs: The decoded arguments; None: they could not be decoded.
        exc: What the receiver raised; its frames are searched, and those of its causes.
    """
    try:
        patterns = (*conf.get_settings().sensitive, *receiver_sensitive)
    except Exception:  # noqa: BLE001  (settings that cannot be read must not uncover anything)
        patterns = (*conf.SENSITIVE, *receiver_sensitive)
    names = _mask_of_names(patterns)
    if kwargs is None and exc is None:
        return names
    return names.with_values(secrets.find(names.is_sensitive, kwargs, exc))


def storable(text: str) -> str:
    """Return *text* without NUL and lone surrogates, which databases refuse."""
    return _UNSTORABLE.sub("", text)


@functools.lru_cache(maxsize=256)
def _mask_of_names(patterns: tuple[str, ...]) -> Mask:
    """Return what each delivery needs anew: as many as there are receivers."""
    return Mask(patterns)


def _plain(text: str) -> str:
    return text.lower().replace("-", "_").replace(" ", "_")


@functools.cache
def _alone(name: str) -> re.Pattern[str]:
    """Return what finds *name* where it stands alone; the label auth.user has no auth in it."""
    name = re.escape(name)
    return re.compile(rf"{name}(?<![a-z0-9]{name})(?![a-z0-9.])")


def _names_in(key: Any, depth: int = 10) -> list[str]:
    """Return all texts in the JSON of a dict's key: a text, an enum's member, a tuple of such."""
    if type(key) is str:
        return [key]
    if type(key) is dict:
        key = key.get("v")
        return _names_in(key, depth - 1) if depth else []
    if type(key) in (list, tuple) and depth:
        return [name for part in key for name in _names_in(part, depth - 1)]
    return []
