"""Files of file fields: the name in the storage, and the instance that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.files import File
from django.db.models import FileField, Model
from django.db.models.fields.files import FieldFile

from .table import Unsendable, add_family, add_tag, decode_value

if TYPE_CHECKING:
    from .table import Encoder


def name_of(file: FieldFile) -> str | None:
    """Return the name of *file* in its storage; raises Unsendable where it is not stored yet."""
    if file and not file._committed:  # type: ignore[attr-defined]  # Django's own mark.
        raise Unsendable(
            file,
            "expected a file that is stored already",
            "Save it first, or take what you need of it in a plain @receiver.",
        )
    return file.name


def _encode_file(file: FieldFile, encoder: Encoder) -> Any:
    instance, field = file.instance, file.field
    if (
        not isinstance(instance, Model)
        or field not in instance._meta.concrete_fields
        or type(file) is not field.attr_class
    ):
        raise Unsendable(file, "expected a file of a field of its instance")
    owner = encoder.encode(instance)
    return {"$": "fieldfile", "v": [owner, field.name, encoder.encode(name_of(file))]}


def _decode_file(data: Any) -> FieldFile:
    owner, field_name, name = data
    instance = decode_value(owner)
    if not issubclass(type(instance), Model):
        raise TypeError(field_name)
    for field in instance._meta.concrete_fields:
        if field.name == field_name and isinstance(field, FileField):
            file: FieldFile = field.attr_class(instance, field, decode_value(name))
            return file
    raise LookupError(field_name)


def _refuse_file(file: File[Any], encoder: Encoder) -> Any:
    raise Unsendable(
        file,
        "expected a file that is stored already",
        "Save it to a file field or a storage first and send its name there, or leave it out with "
        "exclude=[{argument!r}].",
    )


add_family(lambda kind: issubclass(kind, FieldFile), _encode_file)
add_family(lambda kind: issubclass(kind, File), _refuse_file)  # Uploads above all.
add_tag("fieldfile", _decode_file)
