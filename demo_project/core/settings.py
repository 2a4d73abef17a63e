"""
Settings of the demo's site.

It is meant for your own machine: DEBUG is on where nothing else is said.
"""

import django
from celery.schedules import crontab

from .environment import database, secret_key, variable

DEBUG = variable("DEBUG", "1") == "1"
SECRET_KEY = variable("SECRET_KEY") or secret_key()
ALLOWED_HOSTS = variable("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "async_signals",
    "movies",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "core.urls"
WSGI_APPLICATION = "core.wsgi.application"
STATIC_URL = "static/"

DATABASES = {"default": database(variable("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

# E-mail: to a server if one is named, else onto the terminal of the process that sends it.
MAIL_SERVER = {
    "host": variable("EMAIL_HOST"),
    "port": int(variable("EMAIL_PORT", "25")),
    "timeout": 10,
}
DELIVERING_BACKEND = "django.core.mail.backends.{}.EmailBackend".format(
    "smtp" if MAIL_SERVER["host"] else "console"
)
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {"BACKEND": "movies.mailing.MailServer"},
        "delivering": {
            "BACKEND": DELIVERING_BACKEND,
            "OPTIONS": MAIL_SERVER if MAIL_SERVER["host"] else {},
        },
    }
else:
    EMAIL_BACKEND = "movies.mailing.MailServer"  # The same, with a switch that breaks it.
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = MAIL_SERVER.values()
ADMIN = "admin@example.com"
ADMINS = [ADMIN] if django.VERSION >= (6, 0) else [("Movie Admin", ADMIN)]
SERVER_EMAIL = "movies@example.com"

# The web service that knows all movies; recorded answers without a key.
OMDB_API_KEY = variable("OMDB_API_KEY")

CELERY_BROKER_URL = variable("BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_TASK_DEFAULT_QUEUE = variable("QUEUE", "movies")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if CELERY_BROKER_URL.startswith("redis"):
    # What a worker that died had taken is handed out again after a minute, not an hour.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 60}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE = {
    "mail-search-statistics": {
        "task": "movies.tasks.mail_search_statistics",
        "schedule": crontab(hour=7, minute=0),
    },
}

ASYNC_SIGNALS = {
    "ALERT_ADMINS": True,
    # Not by the mail server that alerts may be about.
    "ALERT_EMAIL_BACKEND": "delivering" if django.VERSION >= (6, 1) else DELIVERING_BACKEND,
}

# One handler at the root; a worker replaces it by Celery's own.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "[%(levelname)s/%(name)s] %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django": {"handlers": [], "level": "INFO"}},
}
