"""The Django app: creates the tasks, registers the checks, starts what runs by itself."""

from __future__ import annotations

from django.apps import AppConfig


class AsyncSignalsConfig(AppConfig):
    """Configuration of ``"async_signals"`` in ``INSTALLED_APPS``."""

    name = "async_signals"
    verbose_name = "Asynchronous signals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Create a task for each receiver, also for those that later apps register."""
        from . import alerts, checks, tasks, worker  # noqa: F401, PLC0415  (checks do it themselves)

        tasks.create_tasks()
        worker.add_steps()
        alerts.connect()
