"""A job of django-tasks, which finds it by its import path."""

from __future__ import annotations

from django_tasks import task


@task()
def job(pk) -> None: ...
