"""
``flush`` as the tests need it: after each test, of all databases, and most tables are empty.

Django's own empties every table and makes all permissions anew, which takes a second or more of
each test that commits. This one asks which tables have rows, deletes these, and leaves alone what
migrating has made.
"""

from __future__ import annotations

import functools

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.commands import flush
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

MADE_BY_MIGRATING = {
    model._meta.db_table for model in (ContentType, Permission, MigrationRecorder.Migration)
}


@functools.cache
def tables(alias: str) -> list[str]:
    """Return the names of all tables of models that the tests fill."""
    found = connections[alias].introspection.django_table_names(
        only_existing=True, include_views=False
    )
    return sorted(set(found) - MADE_BY_MIGRATING)


class Command(flush.Command):
    def handle(self, *, database: str, **options) -> None:
        connection = connections[database]
        quoted = {name: connection.ops.quote_name(name) for name in tables(database)}
        looks = (
            f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {table})"
            for name, table in quoted.items()
        )
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(looks))
            filled = [name for (name,) in cursor.fetchall()]
        if not filled:
            return
        with (
            connection.constraint_checks_disabled(),
            transaction.atomic(using=database),
            connection.cursor() as cursor,
        ):
            if connection.vendor == "postgresql":  # Holes would change what its planner chooses.
                cursor.execute(f"TRUNCATE {', '.join(quoted[name] for name in filled)} CASCADE")
                return
            for name in filled:
                cursor.execute(f"DELETE FROM {quoted[name]}")
