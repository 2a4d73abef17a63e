"""The Django app: creates the tasks, registers the checks."""

from __future__ import annotations

from django.apps import AppConfig


class AsyncSignalsConfig(AppConfig):
    """Configuration of ``"async_signals"`` in ``INSTALLED_APPS``."""

    name = "async_signals"
    verbose_name = "Asynchronous signals"

    def ready(self) -> None:
        """Create a task for each receiver, also for those that later apps register."""
        from . import checks, tasks  # noqa: F401, PLC0415  (checks register themselves)

        tasks.create_tasks()
