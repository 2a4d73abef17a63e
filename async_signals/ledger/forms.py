"""The texts in which a secret value may stand: none of them made by code of the site."""

from __future__ import annotations

import datetime as dt
import decimal
import html
import itertools
import json
import re
import urllib.parse
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BYTES", "NUMBERS", "SCHEMES", "text_of_number", "texts_of"]

NUMBERS = (int, float, decimal.Decimal)
BYTES = (bytes, bytearray, memoryview)

#: What stands before the credential of a header.
SCHEMES = "Bearer|Basic|Digest|Token|Api-?Key|JWT|OAuth|Negotiate|NTLM"

#: A scheme and its credential; that of an unknown scheme is long, and one word.
_HEADER = re.compile(rf"(?is)(?:{SCHEMES})\s+(\S.*)|[a-z][\w-]{{1,30}}\s+(\S{{12,}})")
#: What a cookie, or a scheme with parameters, consists of.
_PAIR = r"[\w.-]{1,100}+(?:=(?:\"[^\"]*+\"|[^\s\";,]*+))?"
_PAIRS = re.compile(rf"(?:[\w-]{{1,30}}+\s++)?{_PAIR}(?:[;,]\s*+{_PAIR})*+;?")
_VALUE = re.compile(r"=\"?([^\s\";,]{8,})")
#: Pairs that are taken apart.
_MAX_PAIRS = 50

#: Characters of a value, and lines of one.
_MAX_SIZE, _MAX_LINES = 100_000, 100
#: Bits of a whole number; of a larger one Python writes no decimal digits.
_MAX_BITS = 4_096
#: Shorter ones stand in any text, and say nothing.
_MIN_SIZE = 4

#: Values that stand everywhere; to replace them would spoil texts and hide nothing.
_COMMON = frozenset(
    [
        "true",
        "false",
        "none",
        "null",
        "undefined",
        "unknown",
        "default",
        "empty",
        "password",
        "passwd",
        "secret",
        "token",
        "user",
        "admin",
        "test",
        "example",
        "basic",
        "bearer",
        "http",
        "https",
        "post",
        "name",
        "text",
        "data",
        "utf-8",
        "localhost",
    ]
)


def text_of_number(value: Any) -> str:
    """Return the digits of *value*; empty: too many of them."""
    kind = type(value)
    if issubclass(kind, int):
        return int.__repr__(value) if int.bit_length(value) < _MAX_BITS else ""
    if issubclass(kind, float):
        return float.__repr__(value)
    return decimal.Decimal.__str__(value)


def texts_of(value: Any) -> set[str]:
    """Return the forms in which a text may hold *value*; none: it is no value, or too common."""
    kind = type(value)
    plain: set[str] = set()
    if kind is bool:
        return plain
    if issubclass(kind, str):
        text = str.__str__(value)[:_MAX_SIZE]
        plain = {*_lines(text), *_credentials(text.strip())}
    elif issubclass(kind, BYTES):
        data = bytes(memoryview(value)[:_MAX_SIZE])
        text = data.decode("utf-8", "ignore")
        plain = {data.hex(), text, repr(data)[2:-1], *_credentials(text.strip())}
    elif issubclass(kind, NUMBERS):
        plain = {text_of_number(value)}
        if issubclass(kind, int) and int.bit_length(value) > 53:
            plain.add(hex(int.__index__(value)))
    elif kind is uuid.UUID:
        plain = {str(value), value.hex}
    elif kind in (dt.date, dt.datetime, dt.time):
        plain = {str(value), value.isoformat(), repr(value)}
    plain = {text for text in plain if len(text) >= _MIN_SIZE and text.lower() not in _COMMON}
    return {form for text in plain for form in _forms(text)}


def _lines(text: str) -> set[str]:
    """Return *text* and, for where it is indented, its lines that are long enough to be sure."""
    stripped = text.strip()
    lines = [line.strip() for line in stripped.splitlines()[:_MAX_LINES]]
    return {stripped, *(line for line in lines if len(line) >= 2 * _MIN_SIZE)}


def _credentials(text: str) -> Iterator[str]:
    """Yield what is secret in the value of a header without the words around it."""
    if found := _HEADER.fullmatch(text):
        yield found[1] or found[2]
    if "=" in text and _PAIRS.fullmatch(text):
        yield from (value[1] for value in itertools.islice(_VALUE.finditer(text), _MAX_PAIRS))


def _forms(text: str) -> Iterator[str]:
    yield text
    yield repr(text)[1:-1]
    yield json.dumps(text)[1:-1]
    yield html.escape(text)
    clean = text.encode("utf-8", "ignore")
    yield urllib.parse.quote(clean)
    yield urllib.parse.quote(clean, safe="")
    yield urllib.parse.quote_plus(clean)
