"""Where a text says ``name=value`` or ``"name": value``: finds the values of secret names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IN_QUERY", "Assignments"]

#: A name and what separates it from its value. Possessive and bounded: linear in any text.
_NAME = re.compile(r"(?<![\w.-])([\w.-]{1,100}+)\\*[\"']?[\"'\])]?[ \t]*(?:=>|[=!]=|:=|[=:])[ \t]*")
_QUOTED = re.compile(
    r"[bBrRuU]{0,2}(?:\"(?:\\.|[^\"\\])*+(?:\"|$)|'(?:\\.|[^'\\])*+(?:'|$))", re.DOTALL
)
_ESCAPED = re.compile(
    r"\\{1,8}+([\"']).{0,2000}?\\{1,8}+\1", re.DOTALL
)  #: Quoted inside of a quoted text.
_BARE = re.compile(r"(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s,;&]+", re.IGNORECASE)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
#: Names that say something elsewhere, and are keys of an API in the query of a URL.
IN_QUERY = re.compile(r"([?&](?:amp;)?(?:key|sig)=)(?![{%])[^\s&#\"'<>]+", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)([^\s/:@]{0,100}+):([^\s/@]{1,200}+)(?=@)")


class Assignments:
    """Replaces what stands after the names that *is_sensitive* says yes to."""

    __slots__ = ("_is_sensitive", "_masked")

    def __init__(self, is_sensitive: Callable[[str], bool], masked: str) -> None:
        self._is_sensitive = is_sensitive
        self._masked = masked

    def replace(self, text: str, *, literals_only: bool = False) -> str:
        """
        Return *text* with the values replaced.

        Args:
            text: Of any length and content.
            literals_only: It is code: what is not quoted is no value.
        """
        if "=" not in text and ":" not in text:
            return text  # Most values of an event.
        text = _IN_URL.sub(rf"\1:{self._masked}", text)
        text = IN_QUERY.sub(rf"\1{self._masked}", text)
        parts: list[str] = []
        position = 0
        for match in _NAME.finditer(text):
            start = match.end()
            if match.start() < position or not self._names(match[1]):
                continue
            found = _QUOTED.match(text, start)
            if found is None and not literals_only:
                found = _ESCAPED.match(text, start) or _BARE.match(text, start)
            if found is None:
                continue
            end = found.end()
            if text[start] in _BRACKETS:
                end = max(end, _end_of_brackets(text, start))
            parts += text[position:start], self._masked
            position = end
        return "".join([*parts, text[position:]])

    def _names(self, name: str) -> bool:
        return self._is_sensitive(name) or self._is_sensitive(name.rpartition(".")[2])


def _end_of_brackets(text: str, start: int) -> int:
    """Return the end of what the bracket at *start* opens; not closed: of the text."""
    opening, closing = text[start], _BRACKETS[text[start]]
    depth = 0
    for match in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start):
        depth += 1 if match[0] == opening else -1
        if depth == 0:
            return match.end()
    return len(text)
