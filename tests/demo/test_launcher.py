"""The whole demo, as a user starts and stops it."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from urllib.request import urlopen

import kombu
import psutil
import pytest
import redis

from tests.testproject.services import FOUND, port_of

from .conftest import PATIENCE

pytestmark = pytest.mark.timeout(180)


def await_gone(processes) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert alive == []


def test_once_ends_well_when_the_worker_has_sent_the_mail(demo):
    run = demo("--once")

    assert run.exit_code() == 0, run.output
    assert " worker | Subject: [Django] New Search Term" in run.lines
    assert " worker | A new search term was used: 'lord of the rings'" in run.lines
    assert not [line for line in run.lines if "web |" in line and "Subject:" in line]
    assert "for the demo and for development only" in run.output
    assert "Traceback" not in run.output
    inline = float(run.await_line(r"as a @receiver +([\d.]+) s")[1])
    asynchronous = float(run.await_line(r"as an @async_receiver +([\d.]+) s")[1])
    assert inline > 1 > asynchronous


def test_it_serves_survives_a_killed_web_process_and_stops_cleanly_on_ctrl_c(demo, tmp_path):
    run = demo()
    site = run.await_line(r"Search +(http://\S+)")[1]
    run.await_line(r"Stop +Ctrl-C")

    with urlopen(f"{site}?q=metropolis", timeout=30) as page:
        assert b"Metropolis" in page.read()
    run.child("runserver").send_signal(signal.SIGKILL)
    run.await_line("worker.*A new search term was used: 'metropolis'")
    run.await_line("web has ended .*: starting it again")
    assert (tmp_path / "data" / "running.json").exists()
    children = run.children()

    run.process.send_signal(signal.SIGINT)

    assert run.exit_code() == 0, run.output
    assert "Traceback" not in run.output
    assert not (tmp_path / "data" / "running.json").exists()
    await_gone(children)


def test_no_process_outlives_a_launcher_that_is_killed(demo):
    run = demo()
    run.await_line(r"Stop +Ctrl-C")
    children = run.children()
    assert len(children) >= 3

    run.process.kill()

    await_gone(children)


def test_a_database_that_is_kept_gets_a_new_term_and_a_new_mail(demo, tmp_path):
    url = f"sqlite:///{tmp_path / 'kept.db'}"
    for _ in range(2):
        run = demo("--once", "--database", url)
        assert run.exit_code() == 0, run.output

    with closing(sqlite3.connect(tmp_path / "kept.db")) as database:
        terms = [term for (term,) in database.execute("SELECT term FROM movies_searchterm")]
    assert len(terms) == 2
    assert all(term.startswith("lord of the rings") for term in terms)
    run.await_line(r"worker \| A new search term was used: 'lord of the rings 20")


def test_what_was_broken_or_paused_does_not_spoil_the_next_start(demo, manage, tmp_path):
    kept = {"BROKER_URL": "memory://", "DATABASE_URL": f"sqlite:///{tmp_path / 'kept.db'}"}
    assert manage("prepare", **kept).returncode == 0
    assert manage("mail_server", "break", **kept).returncode == 0
    paused = manage("async_signals", "pause", "movies.receivers.search_term_saved", **kept)
    assert paused.returncode == 0, paused.stderr

    run = demo("--once", "--database", kept["DATABASE_URL"])

    assert run.exit_code() == 0, run.output


def test_a_broker_that_nobody_runs_is_the_reason_of_the_failure(demo):
    started = time.monotonic()
    run = demo("--once", "--broker", "redis://:secret@127.0.0.1:1/0")

    assert run.exit_code() == 1
    run.await_line("Failed: cannot reach the broker at redis://")
    assert "secret" not in run.output
    assert time.monotonic() - started < PATIENCE


def test_a_database_that_nobody_runs_is_the_reason_of_the_failure(demo):
    run = demo("--once", "--database", "postgres://nobody@127.0.0.1:1/nothing")

    assert run.exit_code() == 1
    run.await_line("Failed: the database cannot be prepared")


@pytest.mark.parametrize(
    ("service", "url"),
    [("redis", "redis://127.0.0.1:{}/7"), ("rabbitmq", "amqp://guest:guest@127.0.0.1:{}//")],
)
def test_it_runs_on_a_real_broker(demo, queue, service, url):
    if service not in FOUND:
        pytest.skip(f"no {service} is running here")
    url = url.format(port_of(service))
    run = demo("--once", "--broker", url)

    assert run.exit_code() == 0, run.output
    assert "Embedded" not in run.output
    forget(queue, url)


def forget(queue: str, url: str) -> None:
    """Leave nothing of *queue* in a broker that serves others too."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"*{queue}*"):
                client.delete(key)
    else:
        with kombu.Connection(url) as connection, connection.channel() as channel:
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
