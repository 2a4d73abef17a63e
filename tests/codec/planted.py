"""What a message may name, and nobody may call: a function, and a class with every hook."""

from __future__ import annotations

import dataclasses

calls = []


def trap(*args: object, **kwargs: object) -> str:
    calls.append("trap")
    return "sprung"


@dataclasses.dataclass
class Trap:
    """Tells of whatever is called of it, but for a hash, which sets and keys of dicts need."""

    x: object = None

    def __post_init__(self) -> None:
        calls.append("__post_init__")

    def __str__(self) -> str:
        calls.append("__str__")
        return ""

    def __int__(self) -> int:
        calls.append("__int__")
        return 0

    def __iter__(self):
        calls.append("__iter__")
        return iter(())

    def __eq__(self, other: object) -> bool:
        calls.append("__eq__")
        return True

    __hash__ = None


@dataclasses.dataclass
class Expression:
    """Django would take it for one."""

    x: object = None

    def resolve_expression(self, *args: object, **kwargs: object) -> Expression:
        calls.append("resolve_expression")
        return self
