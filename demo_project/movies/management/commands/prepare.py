from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from movies.models import Outage

from async_signals import operations
from async_signals.models import Pause


class Command(BaseCommand):
    help = "Bring the database up to date; with DEBUG also make a user for the admin."

    def handle(self, *args: object, **options: object) -> None:
        call_command("migrate", verbosity=0)
        # What somebody broke or paused to see what happens must not spoil the next start.
        Outage.objects.all().delete()
        for receiver in list(Pause.objects.values_list("receiver", flat=True)):
            operations.resume(receiver, by="demo", reason="The demo was started again.")
        users = get_user_model().objects
        if settings.DEBUG and not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")
        self.stdout.write("The database is ready.")
