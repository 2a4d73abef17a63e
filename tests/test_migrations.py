"""The tables are made on every database, as its routers and its server have it."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connections

from async_signals.models import Delivery
from tests.conftest import require

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class Elsewhere:
    """Knows where the tables are by the names of their models, as routers may."""

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        is_ours = app_label == "async_signals" and model_name is not None
        return db != "postgresql" if is_ours else None


@pytest.fixture
def empty_schema():
    """One of PostgreSQL's, in which nothing has been migrated."""
    require("postgresql")
    connection = connections["postgresql"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA empty")
        cursor.execute("SET search_path TO empty")
    yield connection
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO public")
        cursor.execute("DROP SCHEMA empty CASCADE")


def tables(connection) -> list[str]:
    found = connection.introspection.table_names()
    return [name for name in found if name.startswith("async_signals_")]


def test_a_router_that_keeps_them_elsewhere(empty_schema, settings) -> None:
    """A migration that is about a table does nothing where there is none."""
    settings.DATABASE_ROUTERS = ["tests.test_migrations.Elsewhere"]

    call_command("migrate", "async_signals", database="postgresql", verbosity=0)

    assert tables(empty_schema) == []


def test_there_and_back(empty_schema) -> None:
    """Each migration can be undone."""
    call_command("migrate", "async_signals", database="postgresql", verbosity=0)
    assert Delivery._meta.db_table in tables(empty_schema)

    call_command("migrate", "async_signals", "zero", database="postgresql", verbosity=0)

    assert tables(empty_schema) == []


def test_postgresql_compresses_it_with_lz4() -> None:
    """Where the server can: senders of large transactions wait for it."""
    require("postgresql")
    with connections["postgresql"].cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute "
            "WHERE attcompression = 'l' AND attrelid = %s::regclass",
            [Delivery._meta.db_table],
        )
        found = [name for (name,) in cursor.fetchall()]
        cursor.execute("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
        [can] = cursor.fetchone() or [[]]
    assert found == (["envelope"] if "lz4" in can else [])
