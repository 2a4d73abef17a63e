from __future__ import annotations

from django.core.management.base import BaseCommand
from movies.mailing import SERVICE
from movies.models import Outage


class Command(BaseCommand):
    help = "Break the demo's mail server, or repair it, to see what becomes of the mails."

    def add_arguments(self, parser) -> None:
        parser.add_argument("what", choices=["break", "repair"])

    def handle(self, *args: object, what: str, **options: object) -> None:
        if what == "break":
            Outage.objects.get_or_create(service=SERVICE)
            self.stdout.write(
                "The mail server is down. Search for three new terms, and look at\n"
                "    manage.py async_signals failures"
            )
        else:
            Outage.objects.filter(service=SERVICE).delete()
            self.stdout.write(
                "The mail server is back. Deliver what has failed meanwhile with\n"
                "    manage.py async_signals retry --all"
            )
