"""
The OMDb web service, which knows all movies: over the network with a key, else recorded.

Both clients answer the same two questions with the service's own JSON.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from django.conf import settings

Answer = dict[str, Any]


class OmdbError(Exception):
    """The service cannot be reached, or has refused to answer."""


class Omdb(Protocol):
    def search(self, term: str, page: int = 1) -> list[Answer]:
        """Return one page of the movies whose title has *term*; nothing past the last page."""

    def movie(self, imdb_id: str) -> Answer:
        """Return all details of one movie."""


def omdb() -> Omdb:
    """Return the client that the settings ask for."""
    key = settings.OMDB_API_KEY
    return NetworkOmdb(key) if key else RecordedOmdb()


class NetworkOmdb:
    """Asks the service itself; every question is bounded in time."""

    url = "https://www.omdbapi.com/"
    timeout = 10

    def __init__(self, key: str) -> None:
        self._key = key

    def search(self, term: str, page: int = 1) -> list[Answer]:
        return self._ask(s=term, page=page, type="movie").get("Search", [])

    def movie(self, imdb_id: str) -> Answer:
        answer = self._ask(i=imdb_id)
        if "Title" not in answer:
            raise OmdbError(f"cannot find the movie {imdb_id}: {answer['Error']}")
        return answer

    def _ask(self, **question: object) -> Answer:
        url = f"{self.url}?{urlencode(question | {'apikey': self._key})}"
        try:
            with urllib.request.urlopen(url, timeout=self.timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as exc:
            with exc:
                hint = " Is OMDB_API_KEY right?" if exc.code in (401, 403) else ""
                raise OmdbError(f"cannot ask OMDb: it answered with {exc.code}.{hint}") from None
        except TimeoutError:
            raise OmdbError(f"cannot ask OMDb: no answer within {self.timeout} s.") from None
        except OSError as exc:
            raise OmdbError(f"cannot reach OMDb: {getattr(exc, 'reason', exc)}.") from None
        except ValueError:
            raise OmdbError("cannot ask OMDb: it answered with something else than JSON.") from None
        # "Not found" is an answer; anything else that is not "True" is a refusal.
        if answer.get("Response") != "True" and "not found" not in answer.get("Error", ""):
            raise OmdbError(f"cannot ask OMDb: {answer.get('Error', 'it gave no reason')}")
        return answer


class RecordedOmdb:
    """Knows the movies in ``recorded/movies.json``, and nothing else."""

    page_size = 10

    def search(self, term: str, page: int = 1) -> list[Answer]:
        words = re.findall(r"\w+", term.casefold())
        found = [
            movie
            for movie in _recorded()
            if words and set(words) <= set(re.findall(r"\w+", movie["Title"].casefold()))
        ]
        return found[(page - 1) * self.page_size : page * self.page_size]

    def movie(self, imdb_id: str) -> Answer:
        for movie in _recorded():
            if movie["imdbID"] == imdb_id:
                return movie
        raise OmdbError(f"cannot find the movie {imdb_id}: it is not among the recorded ones.")


@cache
def _recorded() -> list[Answer]:
    path = Path(__file__).parent / "recorded" / "movies.json"
    return json.loads(path.read_text(encoding="utf-8"))
