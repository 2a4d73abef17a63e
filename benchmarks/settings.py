"""
The settings of the site that benchmarks of senders and workers measure: PostgreSQL, Redis, Celery.

``ASYNC_SIGNALS_BENCHMARK`` is JSON: the name of the database and the queue, the port of the
benchmark, that of its mail server, and the apps of others that it measures beside.
"""

from __future__ import annotations

import json
import os

import django

TOLD = json.loads(os.environ["ASYNC_SIGNALS_BENCHMARK"])

INSTALLED_APPS = [
    *("django.contrib.contenttypes", "django.contrib.auth", "async_signals"),
    *TOLD.get("apps", ()),
]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "NAME": TOLD["name"],
    }
}
SECRET_KEY = "only for benchmarks"
USE_TZ = True
CELERY_BROKER_URL = "redis://127.0.0.1:6379/10"
CELERY_TASK_DEFAULT_QUEUE = TOLD["name"]
CELERY_TASK_IGNORE_RESULT = True
# Both as robust tasks are: what is compared is what robust adds to that.
CELERY_TASK_ACKS_LATE = True
ADMINS = ["admin@example.com"] if django.VERSION >= (6, 0) else [("", "admin@example.com")]
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = TOLD.get("mail")
LOGGING_CONFIG = None
