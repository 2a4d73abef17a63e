from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.shortcuts import get_object_or_404, render

from .models import Movie
from .omdb import OmdbError
from .search import fill_movie_details, search_movies
from .signals import searched, searched_and_waiting

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def search_page(request: HttpRequest) -> HttpResponse:
    """
    The search box, and the results of ``?q=``.

    With ``&wait=1`` a signal is sent whose slow receiver is a plain one, else one whose receiver
    is asynchronous; the page says how long it took.
    """
    words = request.GET.get("q", "").replace("\0", " ").strip()  # PostgreSQL takes no NUL.
    waits = "wait" in request.GET
    context = {"words": words, "waits": waits, "is_recorded": not settings.OMDB_API_KEY}
    if words:
        started = time.perf_counter()
        try:
            result = search_movies(words)
        except OmdbError as exc:
            return render(request, "movies/search.html", context | {"error": exc}, status=502)
        signal = searched_and_waiting if waits else searched
        signal.send(sender=search_movies, term=result.term, found=len(result.movies))
        context |= {"result": result, "seconds": time.perf_counter() - started}
    return render(request, "movies/search.html", context)


def movie_page(request: HttpRequest, imdb_id: str) -> HttpResponse:
    """One movie; its details are asked for when it is first looked at."""
    movie = get_object_or_404(Movie, imdb_id=imdb_id)
    try:
        fill_movie_details(movie)
    except OmdbError as exc:
        return render(request, "movies/movie.html", {"movie": movie, "error": exc}, status=502)
    return render(request, "movies/movie.html", {"movie": movie})
