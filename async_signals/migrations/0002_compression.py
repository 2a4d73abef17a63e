"""On PostgreSQL, compress what is needed to deliver with lz4: senders wait for it."""

from typing import Any

from django.db import migrations


def compress_with_lz4(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        # Servers know it from version 14 on, where they were built with it.
        cursor.execute(
            "SELECT 1 FROM pg_settings "
            "WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals) "
            # A router may keep the tables elsewhere.
            "AND to_regclass('async_signals_delivery') IS NOT NULL"
        )
        if cursor.fetchone() is None:
            return
    schema_editor.execute(
        "ALTER TABLE async_signals_delivery ALTER COLUMN envelope SET COMPRESSION lz4"
    )


class Migration(migrations.Migration):
    dependencies = [("async_signals", "0001_initial")]

    operations = [
        migrations.RunPython(
            compress_with_lz4, migrations.RunPython.noop, hints={"model_name": "delivery"}
        )
    ]
