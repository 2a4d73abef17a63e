"""Where a text says ``name=value`` or ``"name": value``: finds the values of secret names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .forms import SCHEMES

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
_BARE = re.compile(rf"(?:(?:{SCHEMES})\s+)?[^\s,;&]+", re.IGNORECASE)
_LINE = re.compile(r"[^\s][^\r\n]*")
#: What stands before a name with which a line of a header or a file of settings begins.
_INDENT, _MAX_INDENT = re.compile(r"[ \t>*#|-]*"), 100
#: Names of errors, which say something behind their colon.
_ERRORS = ("error", "exception", "warning")
#: Blocks with a key of any kind, and those that say that it is private, whatever their name.
_BLOCK = re.compile(
    r"-----BEGIN [^\n-]{1,100}-----.*?(?:-----END [^\n-]{1,100}-----|\Z)", re.DOTALL
)
_PRIVATE = re.compile(
    r"-----BEGIN (?:[A-Z]{1,20} ){0,5}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [^\n-]{1,100}-----|\Z)",
    re.DOTALL,
)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
#: Names that say something elsewhere, and are keys of an API in the query of a URL.
IN_QUERY = re.compile(r"([?&](?:amp;)?(?:key|sig)=)(?![{%])[^\s&#\"'<>]+", re.IGNORECASE)
#: Up to the last "@" of what stands before the path: a password may have one in it.
_IN_URL = re.compile(r"(?<=://)([^\s/:@]{0,1000}+):[^\s/]{1,8000}(?=@)")


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
        if "-----BEGIN" in text:
            text = _PRIVATE.sub(self._masked, text)
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
            found = _QUOTED.match(text, start) or _BLOCK.match(text, start)
            if found is None and not literals_only:
                bare = _LINE if _is_line(text, match) else _BARE
                found = _ESCAPED.match(text, start) or bare.match(text, start)
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


def _is_line(text: str, match: re.Match[str]) -> bool:
    """Whether the rest of the line is the value: a header, or a line of settings."""
    name, separator = match[1].lower(), match[0].rstrip(" \t")[-1]
    if separator == ":" and name.endswith("cookie"):
        return True
    if separator != ":" and match[0][-1] not in " \t":
        return False
    begin = text.rfind("\n", max(0, match.start() - _MAX_INDENT), match.start()) + 1
    is_first = _INDENT.fullmatch(text, begin, match.start()) is not None
    return is_first and not name.endswith(_ERRORS)


def _end_of_brackets(text: str, start: int) -> int:
    """Return the end of what the bracket at *start* opens; not closed: of the text."""
    opening, closing = text[start], _BRACKETS[text[start]]
    depth = 0
    for match in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start):
        depth += 1 if match[0] == opening else -1
        if depth == 0:
            return match.end()
    return len(text)
