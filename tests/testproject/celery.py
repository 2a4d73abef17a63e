"""The Celery app of the tests, configured from Django's settings as in any site."""

from celery import Celery

app = Celery("testproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()  # Something else may have made the fallback app first.
