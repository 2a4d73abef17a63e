"""Numbers, texts, bytes, paths and ranges: values that hold no others."""

from __future__ import annotations

import decimal
import math
import pathlib
import uuid
from typing import TYPE_CHECKING, Any

from django.utils.safestring import SafeString

from .table import SEAM, Unsendable, add_tag, add_type, decode_value

if TYPE_CHECKING:
    from .table import Encoder


def _encode_int(value: int, encoder: Encoder) -> Any:
    # Only a large one comes here. In hexadecimal: Python limits the decimal digits that it reads.
    return {"$": "int", "v": hex(value)}


def _encode_str(value: str, encoder: Encoder) -> Any:
    # Only one that JSON would bend comes here: in pieces, cut where it would join two characters.
    return {"$": "str", "v": SEAM.split(value)}


def _encode_float(value: float, encoder: Encoder) -> Any:
    return value if math.isfinite(value) else {"$": "float", "v": repr(value)}


def _encode_safe(value: SafeString, encoder: Encoder) -> Any:
    return {"$": "safe", "v": encoder.encode(value[:])}  # A slice is a plain str.


def _encode_bytes(value: bytes, encoder: Encoder) -> Any:
    return {"$": "bytes", "v": value.hex()}


def _encode_decimal(value: decimal.Decimal, encoder: Encoder) -> Any:
    return {"$": "decimal", "v": str(value)}


def _encode_uuid(value: uuid.UUID, encoder: Encoder) -> Any:
    return {"$": "uuid", "v": value.hex}


def _encode_range(value: range, encoder: Encoder) -> Any:
    return {"$": "range", "v": [hex(value.start), hex(value.stop), hex(value.step)]}


def _encode_path(value: pathlib.PurePath, encoder: Encoder) -> Any:
    kind, text = type(value), str(value)
    if kind(text).parts != value.parts:  # Before Python 3.12: "./c:d" reads "c:d", a drive.
        raise Unsendable(value, "expected a path that its text leads back to")
    return {"$": "path", "v": [kind.__name__, encoder.encode(text)]}


def _decode_str(data: Any) -> str:
    if type(data) is not list:
        raise TypeError
    return "".join(data)


def _decode_text(data: Any) -> str:
    if type(data) is not str:
        raise TypeError
    return data


def _decode_range(data: Any) -> range:
    start, stop, step = data
    return range(int(start, 16), int(stop, 16), int(step, 16))


_PATHS = {
    kind.__name__: kind
    for kind in (
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    )
}


def _decode_path(data: Any) -> pathlib.PurePath:
    name, text = data
    try:
        return _PATHS[name](_decode_text(decode_value(text)))
    except NotImplementedError:  # A path of the file system of another operating system.
        raise LookupError(name) from None


add_type(int, _encode_int)
add_type(str, _encode_str)
add_type(float, _encode_float)
add_type(SafeString, _encode_safe)
add_type(bytes, _encode_bytes)
add_type(decimal.Decimal, _encode_decimal)
add_type(uuid.UUID, _encode_uuid)
add_type(range, _encode_range)
for _kind in _PATHS.values():
    add_type(_kind, _encode_path)

add_tag("int", lambda data: int(data, 16))
add_tag("str", _decode_str)
add_tag("float", lambda data: float(_decode_text(data)))
add_tag("safe", lambda data: SafeString(_decode_text(decode_value(data))))
add_tag("bytes", bytes.fromhex)
add_tag("decimal", lambda data: decimal.Decimal(_decode_text(data)))
add_tag("uuid", lambda data: uuid.UUID(int=int(data, 16)))
add_tag("range", _decode_range)
add_tag("path", _decode_path)
