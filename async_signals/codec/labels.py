"""What encoded values are about, for people: read off their JSON, nothing is decoded."""

from __future__ import annotations

from typing import Any

__all__ = ["row_label", "sender_label"]


def sender_label(data: Any) -> str:
    """Return what a sender, as JSON, is called; its type's tag where it has no name."""
    if data is None:
        return ""
    if not isinstance(data, dict) or "$" not in data:
        return str(data) if isinstance(data, (str, int)) else type(data).__name__
    if data["$"] in ("class", "model", "both", "function"):
        return _text(data["v"], index=1 if data["$"] == "class" else 0) or str(data["$"])
    return str(data["$"])


def row_label(data: Any) -> tuple[str, str]:
    """Return label and primary key of the instance that *data* refers to; two empty: none."""
    if not isinstance(data, dict) or data.get("$") not in ("model", "both"):
        return "", ""
    label, key = _text(data["v"], index=0), data["v"][2]
    if isinstance(key, dict) and "v" in key:  # A primary key that JSON has no type for.
        key = key["v"][2] if key.get("$") == "by_field" else key["v"]
    return label, str(key) if isinstance(key, (str, int)) else ""


def _text(data: Any, *, index: int) -> str:
    found = data[index] if isinstance(data, list) and len(data) > index else data
    return found if isinstance(found, str) else ""
