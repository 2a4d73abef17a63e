"""
Settings of the test project.

Each database server that is found gets an alias, so that one run covers them all. A worker
process gets the names of the test databases through the environment.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from .services import FOUND, port_of

if "mariadb" in FOUND:
    import pymysql

    # Django asks for mysqlclient by its version; PyMySQL does the same job without a compiler.
    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()

#: Checkouts that are tested at the same time do not meet in one database.
CHECKOUT = hashlib.sha256(__file__.encode()).hexdigest()[:8]
FOLDER = Path(os.environ.setdefault("ASYNC_SIGNALS_TEST_FOLDER", tempfile.mkdtemp()))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")


def sqlite(name: str) -> dict:
    path = str(FOLDER / f"{name}{WORKER}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        # A file: a worker process does not see a database in memory.
        "TEST": {"NAME": path},
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            + os.environ.get("ASYNC_SIGNALS_TEST_PRAGMA", ""),
        },
    }


DATABASES = {"default": sqlite("default"), "other": sqlite("other")}
if "postgresql" in FOUND:
    DATABASES["postgresql"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": port_of("postgresql"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "NAME": "postgres",
        "TEST": {"NAME": f"test_async_signals_{CHECKOUT}"},
    }
if "mariadb" in FOUND:
    DATABASES["mariadb"] = {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "127.0.0.1",
        "PORT": port_of("mariadb"),
        "USER": os.environ.get("MARIADB_USER", "root"),
        "PASSWORD": os.environ.get("MARIADB_PASSWORD", ""),
        "NAME": f"async_signals_{CHECKOUT}",
        "TEST": {"NAME": f"test_async_signals_{CHECKOUT}", "CHARSET": "utf8mb4"},
        # What TLS needs is read anew for each connection, and relays open one at each look.
        "OPTIONS": {"charset": "utf8mb4", "ssl_disabled": True},
    }
for _alias, _name in json.loads(os.environ.get("ASYNC_SIGNALS_TEST_DATABASES", "{}")).items():
    DATABASES[_alias]["NAME"] = _name

DATABASE_ROUTERS = ["tests.testproject.routers.LedgerElsewhere"]
#: "unfold" or "jazzmin": the admin looks so, as in a site that has chosen it.
THEME = os.environ.get("ASYNC_SIGNALS_TEST_THEME", "")

INSTALLED_APPS = [
    *([THEME] if THEME else []),
    "django.contrib.admin",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "async_signals",
    "tests.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
STATIC_URL = "/static/"
ROOT_URLCONF = "tests.testproject.urls"
SECRET_KEY = "only for tests"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CELERY_BROKER_URL = os.environ.get("ASYNC_SIGNALS_TEST_BROKER", "memory://")
CELERY_BROKER_TRANSPORT_OPTIONS = json.loads(
    os.environ.get("ASYNC_SIGNALS_TEST_TRANSPORT_OPTIONS", "{}")
)
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("ASYNC_SIGNALS_TEST_QUEUE", "async-signals-test")
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"

#: Of a worker that a test starts; in the tests themselves the defaults hold.
ASYNC_SIGNALS = json.loads(os.environ.get("ASYNC_SIGNALS_TEST_SETTINGS", "{}"))
