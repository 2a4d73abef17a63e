"""
Signal arguments <-> JSON, without loss, or not at all.

``values`` has the walk and the types of the standard library, ``models`` Django's models
and querysets, ``importables`` classes and functions.
"""

from __future__ import annotations

from . import importables, models  # noqa: F401  (each puts its types into the table)
from .values import decode, decoding, encode, register

__all__ = ["decode", "decoding", "encode", "register"]
