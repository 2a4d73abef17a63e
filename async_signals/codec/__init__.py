"""
Signal arguments <-> JSON, without loss, or not at all.

``values`` has the walk and the types of the standard library, ``models`` Django's models
and querysets, ``importables`` classes and functions, ``app_configs`` installed apps,
``task_results`` what Django's task signals carry.
"""

from __future__ import annotations

from . import (  # noqa: F401  (each puts its types into the table)
    app_configs,
    importables,
    models,
    task_results,
)
from .values import decode, decoding, encode, register

__all__ = ["decode", "decoding", "encode", "register"]
