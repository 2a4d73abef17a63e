"""The site: settings, addresses, and the Celery app, which every process must have."""

from .celery import app as celery_app

__all__ = ["celery_app"]
