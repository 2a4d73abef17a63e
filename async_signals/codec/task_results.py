"""
What Django's task signals carry, from Django 6.0 on: a task's result, and the task in it.

A task travels as the path of its function and the options of this call of it; the worker
finds the task among what its apps have imported.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import django

from .table import Unsendable, add_tag, add_type, decode_attributes, decode_value

if TYPE_CHECKING:
    from .table import Encoder

#: The options that ``Task.using()`` may have changed for one call.
_TASK_OPTIONS = ("priority", "backend", "queue_name", "run_after")


if django.VERSION >= (6, 0):
    from django.tasks.base import Task, TaskError, TaskResult

    def _find(path: str) -> Task[..., Any]:
        """Return the task at *path*, without importing or calling anything."""
        module, _, name = path.rpartition(".")
        found: Any = getattr(sys.modules.get(module), "__dict__", {}).get(name)
        # Of its type: isinstance() would make a lazy object say what it stands for.
        if not issubclass(type(found), Task):
            raise LookupError(path)  # noqa: TRY004  (a wrong path, not a wrong argument)
        task: Task[..., Any] = found
        return task

    def _is_same(own: object, value: object) -> bool:
        """Whether an option is the task's own; what is of another type is not asked to compare."""
        return type(value) is type(own) and value == own

    def _encode_task(task: Task[..., Any], encoder: Encoder) -> Any:
        try:
            _find(task.module_path)
        except LookupError:
            raise Unsendable(
                task, f"expected a task that can be imported as {task.module_path}"
            ) from None
        options = [encoder.encode(getattr(task, name)) for name in _TASK_OPTIONS]
        return {"$": "task", "v": [task.module_path, options]}

    def _decode_task(data: Any) -> Task[..., Any]:
        path, options = data
        values = dict(zip(_TASK_OPTIONS, map(decode_value, options), strict=True))
        task = _find(path)
        if all(_is_same(getattr(task, name), value) for name, value in values.items()):
            return task
        # Neither replace() nor copy(): Django would ask the backend whether it likes the task.
        called = object.__new__(type(task))
        for field in dataclasses.fields(task):
            value = values.get(field.name, getattr(task, field.name))
            object.__setattr__(called, field.name, value)
        return called

    def _encode_error(error: TaskError, encoder: Encoder) -> Any:
        traceback = encoder.encode(error.traceback)
        return {"$": "task_error", "v": [error.exception_class_path, traceback]}

    def _decode_error(data: Any) -> TaskError:
        path, traceback = data
        return TaskError(exception_class_path=path, traceback=decode_value(traceback))

    def _encode_result(result: TaskResult[Any, Any], encoder: Encoder) -> Any:
        fields = dataclasses.fields(result)
        values = {field.name: getattr(result, field.name) for field in fields}
        return {"$": "task_result", "v": encoder.encode_attributes(values)}

    def _decode_result(data: dict[str, Any]) -> TaskResult[Any, Any]:
        values = decode_attributes(data)
        value = values.pop("_return_value")
        result: TaskResult[Any, Any] = TaskResult(**values)
        # As Django's own backends set it: no argument of the frozen class sets it.
        object.__setattr__(result, "_return_value", value)
        return result

    # The very types: the family of all dataclasses would have them otherwise.
    add_type(Task, _encode_task)
    add_type(TaskError, _encode_error)
    add_type(TaskResult, _encode_result)
    add_tag("task", _decode_task)
    add_tag("task_error", _decode_error)
    add_tag("task_result", _decode_result)
