from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError
from movies.omdb import OmdbError
from movies.search import search_movies

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Search for movies by words of their titles, and keep them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="+", help='e.g. "lord of the rings"')

    def handle(self, *args: object, words: list[str], **options: object) -> None:
        if not any(word.strip() for word in words):
            raise CommandError("cannot search for nothing: name a word of the title.")
        try:
            result = search_movies(" ".join(words))
        except OmdbError as exc:
            raise CommandError(str(exc)) from exc
        for movie in result.movies:
            self.stdout.write(str(movie))
        if not result.movies:
            self.stdout.write(f"No movie found for '{result.term}'.")
