"""
Signal arguments <-> JSON, without loss, or not at all.

``table`` has the types and the walk, ``arguments`` the way in and out, ``custom`` what a site
adds. The other modules are the types themselves, each put into the table by its import; where
two families fit a type, the one imported first has it.
"""

from __future__ import annotations

from . import (  # noqa: F401
    app_configs,
    changes,
    containers,
    fields,
    files,
    importables,
    instances,
    lazies,
    models,
    moments,
    querysets,
    records,
    scalars,
    task_results,
    users,
)
from .arguments import decode, decoding, encode
from .custom import register
from .labels import row_label, sender_label
from .models import rehearsal

__all__ = ["decode", "decoding", "encode", "register", "rehearsal", "row_label", "sender_label"]
