"""
What ``durable=True`` costs, and how fast a relay works: ``python -m benchmarks.durable``.

A thousand saves in one transaction, on Redis and PostgreSQL, in rounds that alternate: alone, with
a durable receiver (written at the commit, and in the simple form at each send), with a receiver
written by hand that calls ``on_commit(task.delay)``, and with one that defers a job of
procrastinate's and of django-tasks', whose jobs stand in the database, too. The first two, whose
difference is small, have more rounds, of their own. Then how many deliveries one relay publishes in
a second, and how many jobs one worker of theirs takes. What is not installed is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import psycopg

ROUNDS, FEW_ROUNDS, SAVES, BACKLOG, JOBS = 61, 9, 1_000, 10_000, 200
NAME = f"async_signals_benchmark_{os.getpid()}"
PEERS = {"procrastinate": "procrastinate.contrib.django", "django_tasks_db": "django_tasks_db"}
#: Emptied before each round.
TABLES = ("async_signals_event", "async_signals_delivery", "auth_user")

Side = Callable[[], contextlib.AbstractContextManager[None]]


def main() -> None:
    apps = []
    for name, app in PEERS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed, and is left out.")
        else:
            apps.append(app)
    told = {"name": NAME, "port": 9, "apps": apps}
    os.environ["ASYNC_SIGNALS_BENCHMARK"] = json.dumps(told)
    server = psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True)
    server.execute(f"CREATE DATABASE {NAME}")
    try:
        measure(apps)
    finally:
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def measure(apps: list[str]) -> None:
    from benchmarks import site  # It configures Django, before anything else of it is imported.

    # isort: split
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    try:
        sides = sides_of(site, apps)
        two = {name: sides[name] for name in ("the saves alone", "durable")}
        print_senders(rounds(site, two, ROUNDS))
        print_senders(rounds(site, sides, FEW_ROUNDS))
        print_takers(site, apps)
    finally:
        site.app.control.purge()
        connection.close()


def rounds(site, sides: dict[str, Side], wanted: int) -> dict[str, list[float]]:
    """Save in each side's turn; return the microseconds of one save in each round."""
    from django.contrib.auth.models import User
    from django.db import connection, transaction

    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(wanted + 1):
        # To and fro: those whose difference counts most are neighbours.
        for name in reversed(sides) if number % 2 else sides:
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
            with sides[name]():
                started = time.perf_counter()
                with transaction.atomic():
                    for each in range(SAVES):
                        User(username=f"user {each}").save()
                took = time.perf_counter() - started
            site.app.control.purge()
            if number:  # The first round warms up.
                taken[name].append(took / SAVES * 1e6)
    return taken


def sides_of(site, apps: list[str]) -> dict[str, Side]:
    """Return the receivers to compare, each connected for as long as its context is open."""
    from async_signals.sending import dispatch

    @contextlib.contextmanager
    def simply() -> Iterator[None]:
        may_wait, dispatch.may_wait = dispatch.may_wait, lambda connection: False
        try:
            with durably():
                yield
        finally:
            dispatch.may_wait = may_wait

    @site.app.task(name="benchmarks.delayed")
    def delayed(pk) -> None: ...

    from django.db import transaction

    def by_hand(instance, **kwargs) -> None:
        pk = instance.pk
        transaction.on_commit(lambda: delayed.delay(pk))

    sides: dict[str, Side] = {
        "the saves alone": contextlib.nullcontext,
        "durable": durably,
        "durable, simple form": simply,
        "by hand, on_commit(task.delay)": lambda: connected(by_hand),
    }
    for app, job in jobs(apps).items():
        sides[f"{app}, a job each"] = lambda job=job: connected(
            lambda instance, **kwargs: job(instance.pk)
        )
    return sides


@contextlib.contextmanager
def connected(receiver) -> Iterator[None]:
    from django.contrib.auth.models import User
    from django.db.models.signals import post_save

    post_save.connect(receiver, sender=User, weak=False)
    try:
        yield
    finally:
        post_save.disconnect(receiver, sender=User)


@contextlib.contextmanager
def durably() -> Iterator[None]:
    from django.contrib.auth.models import User
    from django.db.models.signals import post_save

    import async_signals

    def receive(**kwargs) -> None: ...

    async_signals.connect(
        post_save, receive, sender=User, durable=True, name="benchmarks.durable.receive"
    )
    try:
        yield
    finally:
        post_save.disconnect(receive, sender=User)


def jobs(apps: list[str]) -> dict[str, Callable[[int], object]]:
    """Return what defers a job in the transaction, of each that is installed."""
    found: dict[str, Callable[[int], object]] = {}
    if PEERS["procrastinate"] in apps:
        from procrastinate.contrib.django import app

        task = app.tasks.get("benchmarks.job") or app.task(name="benchmarks.job")(lambda pk: None)
        found["procrastinate"] = lambda pk: task.defer(pk=pk)
    if PEERS["django_tasks_db"] in apps:
        from benchmarks.django_tasks_job import job

        found["django_tasks_db"] = job.enqueue
    return found


def print_senders(taken: dict[str, list[float]]) -> None:
    number = len(taken["the saves alone"])
    print(f"| {SAVES} saves in a transaction, {number} rounds | µs each | more than the saves |")
    print("| --- | ---: | ---: |")
    for name, values in taken.items():
        more = statistics.median(
            each / alone - 1 for each, alone in zip(values, taken["the saves alone"], strict=True)
        )
        print(f"| {name} | {statistics.median(values):.0f} | {more:.0%} |")


def print_takers(site, apps: list[str]) -> None:
    print("\n| from the database | a second | µs each |")
    print("| --- | ---: | ---: |")
    takers = {"one relay, to Redis": drain}
    if PEERS["procrastinate"] in apps:
        takers["procrastinate, jobs fetched"] = fetch_of_procrastinate
    if PEERS["django_tasks_db"] in apps:
        takers["django_tasks_db, jobs claimed"] = claim_of_django_tasks
    for name, take in takers.items():
        each = statistics.median(take() for _ in range(3))
        site.app.control.purge()
        print(f"| {name} | {1 / each:.0f} | {each * 1e6:.0f} |")


def drain() -> float:
    """Return the seconds that a relay takes for each delivery of a backlog."""
    from django.contrib.auth.models import User
    from django.db import connection, transaction
    from django.db.models.functions import Now

    from async_signals import relay, testing
    from async_signals.models import Delivery

    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    with durably():
        for start in range(0, BACKLOG, SAVES):
            with testing.capture(), transaction.atomic():
                for each in range(start, start + SAVES):
                    User(username=f"user {each}").save()
        Delivery.objects.update(state="pending", publishes=0, due_at=Now())
        vacuum()
        started = time.perf_counter()
        published = relay.run(threading.Event(), once=True).published
        took = time.perf_counter() - started
    if published != BACKLOG:
        raise RuntimeError(f"expected {BACKLOG} to be published, got: {published}")
    return took / BACKLOG


def vacuum() -> None:
    """Let the database know how many rows it has, as it does by itself in time."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def fetch_of_procrastinate() -> float:
    """Return the seconds for each job that one worker of procrastinate's takes."""
    from django.db import transaction
    from procrastinate.contrib.django import app

    defer = jobs([PEERS["procrastinate"]])["procrastinate"]
    with transaction.atomic():
        for each in range(JOBS):
            defer(each)

    vacuum()

    async def fetch() -> float:
        connector = app.connector.get_worker_connector()
        async with app.with_connector(connector).open_async() as worker_app:
            worker = await worker_app.job_manager.register_worker()
            started = time.perf_counter()
            for _ in range(JOBS):
                if await worker_app.job_manager.fetch_job(None, worker) is None:
                    raise RuntimeError("expected a job, got: none")
            return (time.perf_counter() - started) / JOBS

    return asyncio.run(fetch())


def claim_of_django_tasks() -> float:
    """Return the seconds for each job that one worker of django-tasks' claims."""
    from django.db import transaction
    from django_tasks_db.models import DBTaskResult
    from django_tasks_db.utils import exclusive_transaction

    defer = jobs([PEERS["django_tasks_db"]])["django_tasks_db"]
    with transaction.atomic():
        for each in range(JOBS):
            defer(each)
    vacuum()
    started = time.perf_counter()
    for _ in range(JOBS):
        ready = DBTaskResult.objects.ready().filter(backend_name="default")
        with exclusive_transaction(ready.db):
            ready.get_locked().claim("worker")
    return (time.perf_counter() - started) / JOBS


if __name__ == "__main__":
    main()
