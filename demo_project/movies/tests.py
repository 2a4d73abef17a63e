"""How a site tests its asynchronous receivers: run inline, or captured."""

from __future__ import annotations

import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.test import SimpleTestCase, TestCase, override_settings
from movies import receivers
from movies.models import Movie, SearchTerm
from movies.omdb import NetworkOmdb, OmdbError
from movies.search import fill_movie_details, search_movies
from movies.tasks import mail_search_statistics

from async_signals.testing import capture, run_inline


@override_settings(OMDB_API_KEY="")
class MailTests(TestCase):
    def test_a_new_search_term_is_mailed(self):
        with run_inline(), self.captureOnCommitCallbacks(execute=True):
            search_movies("Lord of the  Rings")

        assert [message.body for message in mail.outbox] == [
            "A new search term was used: 'lord of the rings'"
        ]
        assert mail.outbox[0].subject == "[Django] New Search Term"

    def test_the_same_term_is_mailed_once(self):
        for _ in range(2):
            with run_inline(), self.captureOnCommitCallbacks(execute=True):
                search_movies("finding nemo")

        assert len(mail.outbox) == 1
        assert SearchTerm.objects.get().searches == 2

    def test_the_receiver_is_still_a_plain_function(self):
        term = SearchTerm(term="metropolis")

        receivers.search_term_saved(SearchTerm, instance=term, created=True)

        assert "'metropolis'" in mail.outbox[0].body

    def test_a_deleted_movie_is_mailed_with_the_values_that_it_had(self):
        movie = Movie.objects.create(imdb_id="tt1", title="Gone", year=1999)

        with run_inline(), self.captureOnCommitCallbacks(execute=True):
            movie.delete()

        assert mail.outbox[0].body == "This movie was deleted: 'Gone (1999)'"

    def test_the_statistics_count_what_was_searched(self):
        search_movies("matrix")
        search_movies("matrix")

        mail_search_statistics()

        assert "     2 x matrix" in mail.outbox[0].body


@override_settings(OMDB_API_KEY="")
class DeliveryTests(TestCase):
    def test_filling_a_movie_tells_who_filled_it_and_its_genres(self):
        search_movies("spirited away")

        with (
            self.assertLogs("movies.receivers") as logs,
            run_inline(),
            self.captureOnCommitCallbacks(execute=True),
        ):
            fill_movie_details(Movie.objects.get())

        assert any("Added to Spirited Away (2001): Adventure, Ani" in line for line in logs.output)
        assert any("by fill_movie_details()" in line for line in logs.output)

    def test_a_login_is_delivered_without_its_request(self):
        user = get_user_model().objects.create_user("amelie")

        with capture() as envelopes, self.captureOnCommitCallbacks(execute=True):
            self.client.force_login(user)

        (envelope,) = [e for e in envelopes if e.receiver == "movies.receivers.user_came_in"]
        assert set(envelope.kwargs) == {"user"}


@override_settings(OMDB_API_KEY="")
class PageTests(TestCase):
    def test_waiting_runs_the_slow_receiver_inline_and_not_waiting_sends_it(self):
        with mock.patch("movies.receivers.time.sleep") as sleep, capture() as envelopes:
            with self.captureOnCommitCallbacks(execute=True):
                self.client.get("/", {"q": "matrix"})
            assert not sleep.called
            sent = [envelope.receiver for envelope in envelopes]
            assert "movies.receivers.find_recommendations" in sent

            self.client.get("/", {"q": "matrix", "wait": 1})
            assert sleep.called

    def test_the_page_lists_what_was_found_and_whether_it_is_new(self):
        with capture():
            first = self.client.get("/", {"q": "finding"})
            second = self.client.get("/", {"q": "Finding"})

        self.assertContains(first, "Finding Dory")
        self.assertContains(first, 'id="new-term"')
        self.assertNotContains(second, 'id="new-term"')

    def test_a_service_that_fails_is_reported_on_the_page(self):
        with (
            override_settings(OMDB_API_KEY="wrong"),
            mock.patch("urllib.request.urlopen", side_effect=urllib.error.URLError("no route")),
            capture(),
        ):
            response = self.client.get("/", {"q": "matrix"})

        self.assertContains(response, "cannot reach OMDb: no route", status_code=502)


class ScheduleTests(SimpleTestCase):
    def test_everything_that_beat_calls_is_a_task(self):
        for entry in settings.CELERY_BEAT_SCHEDULE.values():
            assert entry["task"] in current_app.tasks


class Service(BaseHTTPRequestHandler):
    """A web service like OMDb, which answers by what it is asked for."""

    answers: ClassVar = {
        "matrix": (200, b'{"Search": [{"Title": "The Matrix"}], "Response": "True"}'),
        "nothing": (200, b'{"Response": "False", "Error": "Movie not found!"}'),
        "too much": (200, b'{"Response": "False", "Error": "Request limit reached!"}'),
        "refused": (401, b'{"Response": "False", "Error": "Invalid API key!"}'),
        "nonsense": (200, b"<html>"),
    }

    def do_GET(self):
        term = parse_qs(urlsplit(self.path).query)["s"][0]
        if term == "silence":
            self.server.ended.wait(10)
            return
        status, body = self.answers[term]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class NetworkTests(SimpleTestCase):
    """The real client, over HTTP to a service on this machine."""

    def setUp(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        server.ended = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for end in (server.server_close, thread.join, server.shutdown, server.ended.set):
            self.addCleanup(end)
        self.omdb = NetworkOmdb("key")
        self.omdb.url = f"http://127.0.0.1:{server.server_port}/"
        self.omdb.timeout = 1

    def test_answers_are_read(self):
        assert self.omdb.search("matrix") == [{"Title": "The Matrix"}]
        assert self.omdb.search("nothing") == []

    def test_every_failure_is_told_by_its_reason(self):
        for term, message in {
            "refused": "cannot ask OMDb: it answered with 401. Is OMDB_API_KEY right?",
            "too much": "cannot ask OMDb: Request limit reached!",
            "nonsense": "cannot ask OMDb: it answered with something else than JSON.",
            "silence": "cannot ask OMDb: no answer within 1 s.",
        }.items():
            with self.subTest(term), self.assertRaisesMessage(OmdbError, message):
                self.omdb.search(term)
