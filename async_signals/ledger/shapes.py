"""The shape of a message: what is left of it without what differs between equal failures; pure."""

from __future__ import annotations

import re

__all__ = ["shape_of"]

#: Characters of a message that are compared, before and after what differs is taken out.
_MAX_SAID, _MAX_SHAPE = 4_000, 500

_WEEKDAY = r"\b(?:mon|tue|wed|thu|fri|sat|sun)(?:(?:s|nes|rs|ur)?day)?\b"
_MONTH = (
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
#: Not as people write: a lone small letter between capitals, or five consonants.
_RANDOM = (
    r"(?-i:[A-Z][a-z][A-Z] | [a-z][A-Z][a-z]?[A-Z])"
    r" | [bcdfghjklmnpqrstvwxz]{5}"
)

#: What differs between equal failures, in the order in which it is taken out.
_VARIABLE = re.compile(
    rf"""
    # The answer of a mail server or a database, behind its status: ordinary words.
    (?P<status> \A\(\d{{3,5}},[ ](?=["']) | \(\d{{3}},[ ]b(?=["']) )
        (?P<mark> ["']) (?P<answer> (?: \\. | (?!(?P=mark))[^\\\n] )*+ ) (?P=mark)
    | \b[a-z][a-z0-9+.-]{{0,20}}://\S+                                # URLs
    | [\w.+-]{{1,64}}@[\w-]{{1,64}}\.[\w.-]+                          # mail addresses
    | (?<!\w)[bu]?'(?:\\.|[^'\\\n])*+'(?!\w)                          # quoted texts
    | (?:\b[bu])?"(?:\\.|[^"\\\n])*+" | `[^`\n]*`
    | “[^”\n]{{0,200}}” | „[^“”\n]{{0,200}}[“”]
    | «[^»\n]{{0,200}}» | \u2018[^\u2019\n]{{0,200}}\u2019
    | \b[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}\b         # UUIDs
    | (?:{_WEEKDAY},?[ ]+)?                                           # dates
        (?: {_MONTH}[. -]{{1,2}}\d+ | \b\d\d?(?:st|nd|rd|th)?[. -]{{1,2}}{_MONTH} )
    | \b\d{{4}}-\d\d-\d\d(?:[t ]\d\d(?::\d\d)+(?:[.,]\d+)?(?:z|[+-]\d\d:?\d\d)?)?\b
    | (?<![\w:.])(?=[\d:]*(?:[a-f]|::))                               # IPv6
        (?:[0-9a-f]{{0,4}}:){{2,7}}(?:[0-9a-f]{{1,4}}|[\d.]{{7,15}})?(?![\w:])
    | (?<![\w/+.-])(?=[a-z0-9/]{{0,200}}(?:\+|//|=(?![\w=])|==))      # base64
        [a-z0-9+/]{{12,}}=*
    | (?<![\w.])(?:[a-z]:|[\w.~-]{{1,64}}+)?(?:[/\\][\w.~-]+)+[/\\]?  # paths
    | (?<![\w-])(?=[\d_-]*[^\W\d_])                                  # ids with letters
        (?: (?=(?:[^\W\d]|-)*+\.?\d) | (?=[\w-]{{10}})(?=[\w-]*?(?:{_RANDOM})) ) [\w-]++/?
    | (?:(?<![\w)\]?])-)?\d+(?:[.,:]\d+)*                             # numbers, times
    | •+                                                              # what is masked
    """,
    re.VERBOSE | re.IGNORECASE,
)

#: However many there are of what differs.
_LIST = re.compile(r"\?(?:,[ ]?\?)+")


def shape_of(message: str) -> str:
    """
    Return at most 500 characters that equal failures have in common.

    A word with a digit in it is an id, and so is a long one that nobody can pronounce. To take
    a word for an id does no harm but where nothing else tells two failures apart.

    Args:
        message: Masked; its first 4,000 characters count.
    """
    shape = _VARIABLE.sub(_placeholder, message[:_MAX_SAID])
    return _LIST.sub("?", shape)[:_MAX_SHAPE]


def _placeholder(match: re.Match[str]) -> str:
    if match["status"] is None:
        return "?"
    return match["status"] + _VARIABLE.sub("?", match["answer"])
