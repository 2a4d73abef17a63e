"""Search for movies, keep what was found, fill in the details of one."""

from __future__ import annotations

import dataclasses
import re

from django.db.models import F
from django.utils import timezone

from .models import Genre, Movie, SearchTerm
from .omdb import omdb
from .signals import movie_filled

#: Pages of results that are kept.
PAGES = 3


@dataclasses.dataclass(frozen=True)
class Result:
    term: str
    is_new: bool  #: Nobody has searched for this before.
    movies: list[Movie]


def search_movies(words: str) -> Result:
    """
    Return the movies whose titles have *words*, and keep them.

    Raises:
        OmdbError: The web service does not answer.
    """
    term, is_new = SearchTerm.objects.get_or_create(term=" ".join(words.casefold().split())[:200])
    # An update sends no signals: counting is nobody's news.
    SearchTerm.objects.filter(pk=term.pk).update(
        searches=F("searches") + 1, last_searched_at=timezone.now()
    )
    movies = []
    for page in range(1, PAGES + 1):
        answers = omdb().search(term.term, page)
        movies += [_movie_from(answer) for answer in answers]
        if not answers:
            break
    return Result(term.term, is_new, movies)


def _movie_from(answer: dict[str, str]) -> Movie:
    movie, _ = Movie.objects.get_or_create(
        imdb_id=answer["imdbID"],
        defaults={"title": answer["Title"], "year": _number_in(answer["Year"])},
    )
    return movie


def fill_movie_details(movie: Movie) -> None:
    """
    Ask for what a search does not tell, unless that is known.

    Raises:
        OmdbError: The web service does not answer.
    """
    if movie.is_filled:
        return
    answer = omdb().movie(movie.imdb_id)
    movie.plot = _known(answer["Plot"])
    movie.runtime_minutes = _number_in(answer["Runtime"]) or None
    movie.is_filled = True
    movie.save()
    names = [name.strip() for name in _known(answer["Genre"]).split(",")]
    movie.genres.set(Genre.objects.get_or_create(name=name)[0] for name in names if name)
    movie_filled.send(sender=fill_movie_details, movie=movie)


def _known(text: str) -> str:
    """Return what the service knows: it writes ``N/A`` for nothing."""
    return "" if text == "N/A" else text


def _number_in(text: str) -> int:
    """Return the first number in a text like ``"178 min"`` or ``"2001-2003"``; 0 for none."""
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0
