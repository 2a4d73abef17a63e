from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Bring the database up to date; with DEBUG also make a user for the admin."

    def handle(self, *args: object, **options: object) -> None:
        call_command("migrate", verbosity=0)
        users = get_user_model().objects
        if settings.DEBUG and not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")
        self.stdout.write("The database is ready.")
