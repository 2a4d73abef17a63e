"""People are told once when failures of a kind begin, and once when they are over."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import logging
import smtplib
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.fernet import Fernet
from django.core import checks, mail
from django.core.mail.backends import locmem
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import get_language, override

from async_signals import (
    EnvelopeError,
    FutureEnvelopeError,
    Retry,
    alerts,
    operations,
    registry,
    rescue,
    robust,
    signals,
)
from async_signals.delivery import Delivery
from async_signals.ids import new_id
from async_signals.ledger import claims, due, groups, spool
from async_signals.ledger.deaths import take_dead_claims
from async_signals.ledger.failures import failure_of
from async_signals.ledger.masking import mask_for
from async_signals.models import Claim, Event, FailureGroup, Outcome, State
from async_signals.models import Delivery as Row
from async_signals.results import tell_deaths
from async_signals.sending.outlet import outlet
from async_signals.stats import Filter
from async_signals.wire.envelope import dump, pack
from async_signals.wire.signing import sign, verified
from tests.conftest import LOCMEM, mail_through
from tests.test_settings_and_checks import run
from tests.testapp.models import Tag

pytestmark = pytest.mark.django_db

NAME = "shop.receive"


def find(number: int, token: str) -> None:
    raise LookupError(f"no order {number} for {token}")


def failure(number: int):
    """What is recorded of one of many equal failures."""
    token = f"t0k3n-{number}"
    try:
        find(number, token)
    except LookupError as exc:
        return failure_of(exc, mask_for([], {"token": token}, exc))


def delivery(number: int) -> Delivery:
    return Delivery(
        id=str(uuid.UUID(int=number)),
        event_id=str(uuid.UUID(int=0)),
        receiver=NAME,
        attempt=9,
        sent_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )


def fail(number: int = 1, alias: str = "default") -> None:
    """Record a failure, as the ledger does, and announce it."""
    failed = failure(number)
    event, _ = Event.objects.using(alias).get_or_create(
        id=uuid.UUID(int=0), defaults={"sent_at": timezone.now()}
    )
    Row.objects.using(alias).update_or_create(
        id=uuid.UUID(int=number),
        defaults={
            "event": event,
            "receiver": NAME,
            "sent_at": event.sent_at,
            "state": State.FAILED,
            "attempts": 9,
            "fingerprint": failed.fingerprint,
        },
    )
    groups.seen(number, NAME, failed, alias)
    responses = signals.delivery_failed.send_robust(
        NAME, delivery=delivery(number), using=alias, exception=LookupError(), failure=failed
    )
    assert [answer for _, answer in responses if answer is not None] == []


def end(number: int = 1, state: str = State.SUCCEEDED) -> None:
    """Let a delivery that failed succeed, or be given up."""
    Row.objects.filter(id=uuid.UUID(int=number)).update(state=state)
    signal = signals.delivery_succeeded if state == State.SUCCEEDED else signals.delivery_discarded
    responses = signal.send_robust(
        NAME,
        delivery=delivery(number),
        using="default",
        fingerprint=failure(number).fingerprint,
    )
    assert [answer for _, answer in responses if answer is not None] == []


@pytest.fixture(autouse=True)
def rested(monkeypatch):
    """Nothing rests from other tests; what this one lets rest has rested when it says so."""
    monkeypatch.setattr(alerts, "_untold", {})
    monkeypatch.setattr(alerts, "_silent", {})
    monkeypatch.setattr(alerts, "_REST", 3600)

    def rest() -> None:
        for key, (since, alert) in alerts._untold.items():
            alerts._untold[key] = since - 7200, alert

    return rest


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.taken.append((self.path, self.headers, json.loads(self.rfile.read(size))))
        self.server.answers.wait(20)
        while not self.server.lasts.wait(0.05):
            self.wfile.write(b"a")
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.taken.append((self.path, self.headers, "GET"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def webhook(settings):
    """A real server that keeps what it is sent in ``taken``; answers with ``status``."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.taken, server.status, server.location = [], 200, ""
    server.answers = threading.Event()
    server.answers.set()
    server.lasts = threading.Event()
    server.lasts.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/hook-s3cr3t"
    settings.ASYNC_SIGNALS = {"ALERT_WEBHOOK": server.url}
    yield server
    server.answers.set()
    server.lasts.set()
    server.shutdown()
    thread.join()
    server.server_close()


class DownBackend(BaseEmailBackend):
    """A mail server that does not answer."""

    def send_messages(self, messages) -> int:
        raise ConnectionRefusedError("mail.shop.test, password t0k3n")


class SilentBackend(BaseEmailBackend):
    """A mail server that accepts, and does not answer before it is let."""

    answers = threading.Event()
    calls = 0

    def send_messages(self, messages) -> int:
        type(self).calls += 1
        assert self.answers.wait(20)
        return len(messages)


class CountingBackend(locmem.EmailBackend):
    """Looks into the database, and at the language, before it sends."""

    def send_messages(self, messages) -> int:
        messages[0].subject += f" {get_language()} {Tag.objects.count()}"
        return super().send_messages(messages)


@pytest.fixture
def silent(settings, monkeypatch):
    """Mail goes to a server that does not answer, and is waited for shortly; returns it."""
    monkeypatch.setattr(alerts, "_PATIENCE", 0.2)
    monkeypatch.setattr(SilentBackend, "answers", threading.Event())
    monkeypatch.setattr(SilentBackend, "calls", 0)
    mail_through(settings, f"{__name__}.SilentBackend")
    yield SilentBackend
    SilentBackend.answers.set()
    for left_behind in alerts._silent.values():
        left_behind.join(20)


class TestAdmins:
    def test_one_mail_for_many_failures(self, admins) -> None:
        """500 equal failures: one mail when they begin, one when the last of them is over."""
        for number in range(1, 501):
            fail(number)
        assert [message.subject for message in mail.outbox] == [
            "[Django] shop.receive is failing: LookupError"
        ]
        fingerprint = failure(1).fingerprint
        assert mail.outbox[0].body == (
            "shop.receive is failing: LookupError\nno order 1 for ••••\n\n"
            "Equal failures are not told of again until all of their deliveries are through.\n\n"
            f"Delivery: {uuid.UUID(int=1)}\nFingerprint: {fingerprint}\n"
        )

        for number in range(1, 500):
            end(number)
        assert len(mail.outbox) == 1
        end(500)
        assert [message.subject for message in mail.outbox[1:]] == [
            "[Django] shop.receive has recovered from LookupError"
        ]
        assert mail.outbox[1].body == (
            "shop.receive has recovered from LookupError\nno order 1 for ••••\n\n"
            "No delivery that failed so is failed or waits for another attempt any more.\n\n"
            f"Delivery: {uuid.UUID(int=500)}\nFingerprint: {fingerprint}\n"
        )

    @pytest.mark.django_db(transaction=True, databases="__all__")
    def test_one_mail_for_what_a_mail_server_answers(self, admins, connect, sent) -> None:
        """Though each answer has an id of its own; another answer is another failure."""
        answers = [f"4.7.0 Try later. d2e1a72fcca{n}xyzq.44 - gsmtp" for n in range(20)]

        def receive(number, **kwargs):
            if number is None:
                raise smtplib.SMTPDataError(550, b"5.1.1 No such user.")
            raise smtplib.SMTPDataError(421, answers[number].encode())

        signal, name = Signal(), f"tests.alerts.{new_id()}"
        connect(signal, receive, name=name, robust=True, retry=Retry(max_attempts=1))
        for number in (*range(20), None):
            signal.send(None, number=number)
        for each in sent:
            robust.run(pack([each]), name=name, worker="w@test/1")
        assert [message.body.split("\n")[1] for message in mail.outbox] == [
            "(421, b'4.7.0 Try later. d2e1a72fcca0xyzq.44 - gsmtp')",
            "(550, b'5.1.1 No such user.')",
        ]

    def test_connected_twice(self, admins) -> None:
        """Connecting again, as a second start of the app does, tells nobody twice."""
        alerts.connect()
        fail()
        end()
        assert len(mail.outbox) == 2

    def test_again(self, admins) -> None:
        """After a recovery the next failure is told of; being given up is a recovery too."""
        fail()
        end(state=State.DISCARDED)
        fail()
        assert [message.subject.split("shop.receive ")[1] for message in mail.outbox] == [
            "is failing: LookupError",
            "has recovered from LookupError",
            "is failing: LookupError",
        ]

    def test_a_name_with_lines(self, admins) -> None:
        """A subject is one line, whatever the receiver is called."""
        alerts._mail(dataclasses.replace(ALERT, receiver="a\nBcc: eve@x.test", exception="E" * 300))
        (message,) = mail.outbox
        assert "\n" not in message.subject
        assert len(message.subject) < 220

    def test_mail_server_down(self, admins, settings, caplog, rested) -> None:
        """It is logged without what the error quotes, harms nothing, and is tried again."""
        mail_through(settings, f"{__name__}.DownBackend")
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
        assert caplog.messages == [
            "cannot alert that shop.receive is failing: LookupError: expected ALERT_ADMINS to take "
            "it, got: ConnectionRefusedError. Correct the setting, or what it leads to; what "
            "nobody was told is tried again."
        ]
        assert mail.outbox == []
        assert Row.objects.get().state == State.FAILED

        mail_through(settings, LOCMEM)
        rested()
        fail(2)
        fail(3)
        assert len(mail.outbox) == 1

    def test_a_mail_server_that_never_answers(
        self, admins, silent, settings, caplog, rested
    ) -> None:
        """It holds nobody up: that is logged, and tried again after a rest, as any other error."""
        began = time.monotonic()
        fail(1)
        fail(2)
        assert time.monotonic() - began < 10
        assert caplog.messages[1:] == [
            "cannot alert that shop.receive is failing: LookupError: expected ALERT_ADMINS to take "
            "it, got: no answer in 0.2 s. Correct the setting, or what it leads to; what nobody "
            "was told is tried again."
        ]
        assert FailureGroup.objects.get().alerted_at is None

        silent.answers.set()
        alerts._silent["ALERT_ADMINS"].join(20)
        mail_through(settings, LOCMEM)
        rested()
        fail(3)
        assert len(mail.outbox) == 1

    def test_it_is_called_once(self, admins, silent, caplog, rested) -> None:
        """While a call has not returned there is no other: threads do not pile up."""
        for number in range(1, 6):
            rested()
            fail(number)
        assert caplog.text.count("got: no answer in 0.2 s") == 5
        assert silent.calls == 1

    def test_a_process_ends_without_it(self) -> None:
        """A mail server that never answers keeps no process from ending."""
        code = (
            "import os, threading; os.environ['DJANGO_SETTINGS_MODULE'] = "
            "'tests.testproject.settings'; import django; django.setup();"
            "from django.conf import settings; from async_signals import alerts;"
            "settings.ASYNC_SIGNALS = {'ALERT_ADMINS': True}; alerts._PATIENCE = 0.1;"
            "alerts._mail = lambda alert: threading.Event().wait(50);"
            "print(alerts._send(alerts.Alert(state='failing', delivery='', receiver='r',"
            " exception='E', message='', fingerprint='')))"
        )
        began = time.monotonic()
        assert run(code) == "False"
        assert time.monotonic() - began < 40

    @pytest.mark.django_db(transaction=True)
    def test_in_what_surroundings_mail_is_sent(self, admins, settings) -> None:
        """In the language of who tells; a connection that it needs is closed after it."""
        mail_through(settings, f"{__name__}.CountingBackend")
        opened = []

        def note(connection, **kwargs) -> None:
            opened.append((threading.current_thread(), connection))

        connection_created.connect(note)
        try:
            with override("de"):
                fail(1)
        finally:
            connection_created.disconnect(note)
        [message] = mail.outbox
        assert message.subject.endswith(" de 0")
        [connection] = [each for thread, each in opened if not thread.is_alive()]
        assert connection.connection is None

    def test_no_storm(self, admins, settings, caplog, rested) -> None:
        """While nobody can be told, equal failures make one try; after a rest, another one."""
        mail_through(settings, f"{__name__}.DownBackend")
        for number in range(1, 51):
            fail(number)
        assert caplog.text.count("cannot alert that") == 1
        rested()
        fail(51)
        assert caplog.text.count("cannot alert that") == 2

    def test_after_the_rest(self, admins, settings, rested) -> None:
        """People are told of the first one by whatever becomes of any delivery, once."""
        mail_through(settings, f"{__name__}.DownBackend")
        fail(1)
        fail(2)
        mail_through(settings, LOCMEM)
        told = {"delivery": delivery(3), "using": "default", "fingerprint": "", "duration": 0}
        signals.delivery_succeeded.send(NAME, **told)
        assert mail.outbox == []
        rested()
        for _ in range(2):
            signals.delivery_succeeded.send(NAME, **told)
        [message] = mail.outbox
        assert f"Delivery: {uuid.UUID(int=1)}" in message.body

    def test_over_before_the_rest(self, admins, settings, rested) -> None:
        """Of what is over before anybody could be told, nobody is."""
        mail_through(settings, f"{__name__}.DownBackend")
        fail()
        mail_through(settings, LOCMEM)
        end()
        rested()
        end()
        assert mail.outbox == []
        fail()
        assert len(mail.outbox) == 1

    def test_a_recovery_that_could_not_be_told(self, admins, settings, rested) -> None:
        """It is told after the rest, like a failure."""
        fail()
        mail_through(settings, f"{__name__}.DownBackend")
        end()
        mail_through(settings, LOCMEM)
        rested()
        for _ in range(2):
            signals.delivery_succeeded.send(
                NAME, delivery=delivery(2), using="default", fingerprint="", duration=0
            )
        assert [message.subject for message in mail.outbox[1:]] == [
            "[Django] shop.receive has recovered from LookupError"
        ]

    def test_failing_again_before_a_recovery_could_be_told(self, admins, settings, rested) -> None:
        """People are told how it is now."""
        fail()
        mail_through(settings, f"{__name__}.DownBackend")
        end()
        mail_through(settings, LOCMEM)
        fail()
        assert len(mail.outbox) == 1
        rested()
        fail(2)
        assert [message.subject for message in mail.outbox[1:]] == [
            "[Django] shop.receive is failing: LookupError"
        ]

    def test_no_admins(self, admins, settings, caplog, rested) -> None:
        """Where there is nobody to tell, it is logged, and nobody says that it was told."""
        there, settings.ADMINS = settings.ADMINS, []
        fail(1)
        assert "expected ALERT_ADMINS to take it, got: no ADMINS." in caplog.text
        assert FailureGroup.objects.get().alerted_at is None
        settings.ADMINS = there
        rested()
        fail(2)
        assert len(mail.outbox) == 1

    def test_the_check(self, admins, settings) -> None:
        """``manage.py check`` says that there is nobody to tell."""
        assert "async_signals.W005" not in [
            each.id for each in checks.run_checks(tags=["async_signals"])
        ]
        settings.ADMINS = []
        [warning] = [
            each
            for each in checks.run_checks(tags=["async_signals"])
            if each.id == "async_signals.W005"
        ]
        assert warning.msg == (
            "alerts are to be mailed to the ADMINS, and there are none: nobody is told."
        )


class TestWebhook:
    def test_what_it_is_sent(self, webhook) -> None:
        """One JSON object when failures begin, and one when they are over; nothing unmasked."""
        for number in range(1, 21):
            fail(number)
        for number in range(1, 21):
            end(number)

        (path, headers, begun), (_, _, over) = webhook.taken
        assert path == "/hook-s3cr3t"
        assert headers["Content-Type"] == "application/json"
        text = begun.pop("text")
        assert text.startswith("shop.receive is failing: LookupError\n")
        expected = {
            "version": 1,
            "state": "failing",
            "delivery": str(uuid.UUID(int=1)),
            "receiver": "shop.receive",
            "exception": "LookupError",
            "message": "no order 1 for ••••",
            "fingerprint": failure(1).fingerprint,
        }
        assert begun == expected
        del over["text"]
        assert over == {**expected, "state": "recovered", "delivery": str(uuid.UUID(int=20))}
        assert "t0k3n" not in text

    @pytest.mark.parametrize(
        ("status", "location", "said"),
        [
            (500, "", "HTTP status 500"),
            (404, "", "HTTP status 404"),
            (302, "/elsewhere", "HTTP status 302"),
            (307, "file:///etc/passwd", "HTTP status 307"),
        ],
    )
    def test_refused(self, webhook, caplog, rested, status, location, said) -> None:
        """An error or a redirect is no success; the URL, a secret, is not logged."""
        webhook.status, webhook.location = status, location
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
        assert f"expected ALERT_WEBHOOK to take it, got: {said}." in caplog.text
        assert "s3cr3t" not in caplog.text
        assert len(webhook.taken) == 1

        webhook.status = 204
        rested()
        fail(2)
        fail(3)
        assert len(webhook.taken) == 2

    def test_nobody_listens(self, settings, caplog) -> None:
        """A refused connection is logged by its kind."""
        settings.ASYNC_SIGNALS = {"ALERT_WEBHOOK": "http://127.0.0.1:9/s3cr3t"}
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
        assert "got: ConnectionRefusedError." in caplog.text
        assert "s3cr3t" not in caplog.text

    def test_no_answer(self, webhook, caplog, monkeypatch) -> None:
        """A server that does not answer is given up after a while."""
        monkeypatch.setattr(alerts, "_TIMEOUT", 0.1)
        webhook.answers.clear()
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
        assert "got: TimeoutError." in caplog.text  # There is no answer up to now.

    def test_an_answer_without_end(self, webhook, caplog, monkeypatch) -> None:
        """A server that sends a byte now and then is given up after a while, too."""
        monkeypatch.setattr(alerts, "_PATIENCE", 0.5)
        webhook.lasts.clear()
        began = time.monotonic()
        fail(1)
        assert time.monotonic() - began < 10
        assert "expected ALERT_WEBHOOK to take it, got: no answer in 0.5 s." in caplog.text

    @pytest.mark.parametrize("url", ["httpx://a.test", "http+unix://a", "http:", "https://[a"])
    def test_odd_urls(self, settings, caplog, url) -> None:
        """What is no URL of the web is not opened."""
        settings.ASYNC_SIGNALS = {"ALERT_WEBHOOK": url}
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
        assert "expected ALERT_WEBHOOK to take it" in caplog.text

    def test_one_of_two(self, admins, webhook, settings, caplog) -> None:
        """Where one way fails and the other does not, people were told: it is not repeated."""
        webhook.status = 500
        settings.ASYNC_SIGNALS = {"ALERT_WEBHOOK": webhook.url, "ALERT_ADMINS": True}
        with caplog.at_level(logging.ERROR, "async_signals"):
            fail(1)
            fail(2)
        assert (len(mail.outbox), len(webhook.taken)) == (1, 1)


class TestConcurrency:
    @pytest.mark.django_db(transaction=True)
    def test_at_once(self, webhook) -> None:
        """Several workers that fail at the same time tell once."""
        barrier = threading.Barrier(6)

        def work(number: int) -> None:
            barrier.wait(20)
            fail(number)
            connections.close_all()

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(1, 7)))
        assert len(webhook.taken) == 1


def work(alias: str, name: str) -> None:
    """Let workers do all that is due."""
    ready, died, _ = due.take_due(alias, receivers=[name], limit=100)
    tell_deaths(died)
    for each in ready:
        robust.run(pack([each.reference]), name=name, worker="w@test/1")


def subjects(name: str) -> list[str]:
    """What people were told of the receiver called *name*, and forget it."""
    said = [message.subject.split(name)[1].strip() for message in mail.outbox]
    mail.outbox.clear()
    return said


PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ordered = Signal()


@pytest.mark.django_db(transaction=True, databases="__all__")
class TestDeliveries:
    """Alerts of real deliveries: claimed, run, recorded, retried by a person."""

    @pytest.fixture
    def receiver(self, connect, ledger, admins, settings) -> str:
        """The name of one that raises ``self.raises``."""
        self.raises: Exception | None = None
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "RETRY_RATE": 1000}

        def receive(**kwargs) -> None:
            if self.raises is not None:
                raise self.raises

        name = f"tests.alerts.{new_id()}"
        connect(ordered, receive, name=name, robust=True, retry=Retry(max_attempts=1))
        return name

    @pytest.fixture
    def send(self, receiver, sent):
        """Send once, and run the delivery with what it is to raise."""

        def run(raises: Exception | None) -> str:
            sent.clear()
            self.raises = raises
            ordered.send(None, number=1)
            [result] = robust.run(pack(sent), name=receiver, worker="w@test/1")
            return result.delivery

        return run

    def retry(self, alias: str, name: str, raises: Exception | None, *ids: str) -> None:
        """Let a person retry, and run what is due with what it is to raise."""
        self.raises = raises
        operations.retry(Filter(receiver=name, ids=ids or None), by="ana")
        work(alias, name)

    def test_another_kind_meanwhile(self, ledger, receiver, send) -> None:
        """What fails in one way and then in another has recovered from the first one."""
        send(LookupError("no order"))
        assert subjects(receiver) == ["is failing: LookupError"]
        self.retry(ledger, receiver, OSError("no disk"))
        assert subjects(receiver) == ["is failing: OSError", "has recovered from LookupError"]
        self.retry(ledger, receiver, None)
        assert subjects(receiver) == ["has recovered from OSError"]
        assert not FailureGroup.objects.using(ledger).filter(alerted_at__isnull=False).exists()

        send(LookupError("no order"))
        assert subjects(receiver) == ["is failing: LookupError"]

    def test_another_kind_while_it_is_tried_again(
        self, ledger, receiver, send, monkeypatch
    ) -> None:
        """An attempt that is not the last one ends what it failed of before, and tells no more."""
        send(LookupError("no order"))
        monkeypatch.setattr(
            registry.get(receiver).options.retry.__class__, "wait_after", lambda *a, **k: 0.0
        )
        mail.outbox.clear()
        self.retry(ledger, receiver, OSError("no disk"))
        assert subjects(receiver) == ["has recovered from LookupError"]

    def test_one_of_two_fails_otherwise(self, ledger, receiver, send) -> None:
        """While another delivery fails so, it is not over, and not told of again."""
        first, second = send(LookupError("no order")), send(LookupError("no order"))
        mail.outbox.clear()
        self.retry(ledger, receiver, OSError("no disk"), first)
        assert subjects(receiver) == ["is failing: OSError"]
        send(LookupError("no order"))
        assert subjects(receiver) == []
        operations.discard(Filter(ids=(first,)), by="ana", reason="no")
        assert subjects(receiver) == ["has recovered from OSError"]
        self.retry(ledger, receiver, None, second)
        assert subjects(receiver) == []
        self.retry(ledger, receiver, None)
        assert subjects(receiver) == ["has recovered from LookupError"]

    def test_failing_again(self, ledger, receiver, send) -> None:
        """A retry that fails as before is no new failure."""
        send(LookupError("no order"))
        self.retry(ledger, receiver, LookupError("no order"))
        self.retry(ledger, receiver, LookupError("no order"))
        assert subjects(receiver) == ["is failing: LookupError"]

    def test_a_recovery_that_nobody_saw(self, ledger, receiver, send) -> None:
        """Where the process died before it could tell, the next failure is told of, once."""
        send(LookupError("no order"))
        Row.objects.using(ledger).update(state=State.SUCCEEDED)
        mail.outbox.clear()
        for _ in range(5):
            send(LookupError("no order"))
        assert subjects(receiver) == ["is failing: LookupError"]

    def test_without_code_of_the_site(self, ledger, connect, receiver, sent) -> None:
        """Errors that pass no function of the site are alike in one receiver only."""

        def receive(**kwargs) -> None: ...

        other = f"tests.others.{new_id()}"
        connect(ordered, receive, name=other, robust=True)
        tag = Tag.objects.create(name="gone")
        ordered.send(None, tag=tag)
        tag.delete()
        for each in sent:
            robust.run(pack([each]), name=each.receiver, worker="w@test/1")

        assert sorted(message.subject.split()[1] for message in mail.outbox) == [receiver, other]
        [one, _] = groups_of = FailureGroup.objects.using(ledger).order_by("receiver")
        assert {group.receiver for group in groups_of} == {receiver, other}
        operations.retry(Filter(fingerprint=one.fingerprint), by="ana")
        assert Row.objects.using(ledger).get(receiver=other).state == State.FAILED

    def test_the_death_of_workers(self, ledger, receiver, sent, settings) -> None:
        """A delivery whose workers have died too often is told of, once for several."""
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "MAX_DEATHS": 1}
        for _ in range(2):  # The second time, nobody has said that the first ones were over.
            for number in range(3):
                ordered.send(None, number=number)
            for each in sent:
                assert claims.claim(each, dump(each), worker="w@test/1") is not None
            sent.clear()
            Claim.objects.using(ledger).filter(done=False).update(expires_at=PAST)
            tell_deaths(take_dead_claims(ledger, limit=100))
            assert subjects(receiver) == ["is failing: its worker died"]
            Row.objects.using(ledger).update(state=State.SUCCEEDED)

    def test_recovery_from_deaths(self, ledger, receiver, sent, settings) -> None:
        """A delivery that gets through after its workers have died has recovered."""
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "MAX_DEATHS": 1}
        ordered.send(None, number=1)
        claims.claim(sent[0], dump(sent[0]), worker="w@test/1")
        Claim.objects.using(ledger).update(expires_at=PAST)
        tell_deaths(take_dead_claims(ledger, limit=100))
        self.retry(ledger, receiver, None)
        assert subjects(receiver) == [
            "is failing: its worker died",
            "has recovered from deaths of its worker",
        ]


@pytest.fixture
def failures():
    """What ``delivery_failed`` carries, each time that it is sent."""
    heard = []

    def hear(**named) -> None:
        heard.append(named)

    signals.delivery_failed.connect(hear)
    yield heard
    signals.delivery_failed.disconnect(hear)


@pytest.fixture
def once(connect, ledger, admins, settings):
    """Connect a robust receiver that does nothing, by default, and is tried once."""
    settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "RETRY_RATE": 1000}

    def make(receive=None, *, on=ordered, **options) -> str:
        def nothing(**kwargs) -> None: ...

        name = f"tests.alerts.{new_id()}"
        options = {"robust": True, "retry": Retry(max_attempts=1), **options}
        connect(on, receive or nothing, name=name, **options)
        return name

    return make


@pytest.mark.django_db(transaction=True, databases="__all__")
class TestNeverRun:
    """What fails for good before its receiver is called is told of like any other failure."""

    def test_what_cannot_be_sent(self, once, ledger, failures) -> None:
        """People are told, and listeners; it is over when a person gives it up."""
        name = once()
        ordered.send(None, thing=object())
        [heard] = failures
        assert (heard["delivery"].receiver, heard["delivery"].attempt) == (name, 0)
        assert heard["delivery"].id == str(Row.objects.using(ledger).get().pk)
        assert (heard["exception"], heard["using"]) == (None, ledger)
        error = "async_signals.exceptions.SerializationError"
        assert heard["failure"].exception == error
        assert subjects(name) == [f"is failing: {error}"]

        operations.discard(Filter(receiver=name), by="ana", reason="no")
        assert subjects(name) == [f"has recovered from {error}"]

    def test_too_large(self, once, ledger, failures, settings) -> None:
        """So is a message that no broker should have to take."""
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "MAX_MESSAGE_SIZE": 5_000}
        name = once()
        ordered.send(None, text="x" * 10_000)
        assert [each["delivery"].receiver for each in failures] == [name]
        assert len(subjects(name)) == 1

    def test_without_end(self, once, ledger, failures, sent) -> None:
        """And a receiver that causes itself once more than it may."""

        def receive(**kwargs) -> None:
            ordered.send(None)

        name = once(receive)
        ordered.send(None)
        for each in sent:  # It grows.
            robust.run(pack([each]), name=name, worker="w@test/1")
        [heard] = failures
        assert heard["delivery"].chain == (name,) * 5
        error = "async_signals.exceptions.RecursionLimitError"
        assert subjects(name) == [f"is failing: {error}"]

    def test_in_a_transaction(self, once, ledger, failures) -> None:
        """It is told when it is recorded, after the commit; never what was rolled back."""
        name = once(durable=True, using=ledger)
        with transaction.atomic(using=ledger):
            with contextlib.suppress(LookupError), transaction.atomic(using=ledger):
                ordered.send(None, thing=object())
                raise LookupError
            ordered.send(None, thing=object())
            assert failures == []
        assert [each["delivery"].id for each in failures] == [
            str(row.pk) for row in Row.objects.using(ledger).all()
        ]
        assert len(subjects(name)) == 1

        with contextlib.suppress(LookupError), transaction.atomic(using=ledger):
            ordered.send(None, thing=object())
            raise LookupError
        assert len(failures) == 1

    def test_from_the_spool(self, once, ledger, failures, settings, tmp_path, monkeypatch) -> None:
        """What is spooled is told of when it comes into the ledger."""
        settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "SPOOL": str(tmp_path)}
        monkeypatch.setattr(spool, "_ensure_thread", lambda: None)
        name = once(on_commit=False)
        with transaction.atomic(using=ledger):
            ordered.send(None, thing=object(), using=ledger)
        assert failures == []
        assert spool.drain() == 1
        assert len(failures) == len(subjects(name)) == 1

    def test_while_it_is_told_of(self, once, ledger, failures) -> None:
        """Listeners that send what cannot be sent are not told of that: it would never end."""
        lost = Signal()
        name = once()
        once(on=lost)

        def listen(**named) -> None:
            lost.send(None, thing=object())

        signals.delivery_failed.connect(listen)
        try:
            ordered.send(None, thing=object())
        finally:
            signals.delivery_failed.disconnect(listen)
        assert [each["delivery"].receiver for each in failures] == [name]
        assert Row.objects.using(ledger).filter(state=State.FAILED).count() == 2

    def test_listeners_that_raise(self, once, ledger, caplog) -> None:
        """The sender hears nothing of it."""
        once()

        def listen(**named) -> None:
            raise OSError("no pager")

        signals.delivery_failed.connect(listen)
        try:
            ordered.send(None, thing=object())
        finally:
            signals.delivery_failed.disconnect(listen)
        assert "OSError at" in caplog.text

    def test_a_lost_key(self, once, ledger, sent, settings, failures) -> None:
        """What is in the ledger and cannot be read any more has failed in another way."""

        def receive(**kwargs) -> None:
            raise OSError("no disk")

        def new_keys() -> None:
            keys = [Fernet.generate_key().decode()]
            settings.ASYNC_SIGNALS = {**settings.ASYNC_SIGNALS, "ENCRYPTION_KEYS": keys}

        new_keys()
        name = once(receive)
        ordered.send(None, number=1)
        robust.run(pack(sent), name=name, worker="w@test/1")
        assert subjects(name) == ["is failing: OSError"]

        new_keys()
        operations.retry(Filter(receiver=name), by="ana")
        with pytest.raises(EnvelopeError):
            work(ledger, name)

        error = "async_signals.exceptions.EnvelopeError"
        assert subjects(name) == [f"is failing: {error}", "has recovered from OSError"]
        row = Row.objects.using(ledger).get()
        attempt = row.attempt_set.get(number=2)
        assert (attempt.outcome, attempt.exception, row.attempts) == (Outcome.REFUSED, error, 1)
        assert (attempt.worker, attempt.fingerprint) == ("w@test/1", row.fingerprint)
        assert isinstance(failures[1]["exception"], EnvelopeError)
        assert failures[1]["delivery"].attempt == 2

    def test_a_message_of_the_future(self, once, ledger, sent) -> None:
        """A worker too old to read it tells of it; after the deploy it may fail otherwise."""

        def receive(**kwargs) -> None:
            raise OSError("no disk")

        name = once(receive)
        ordered.send(None, number=1)
        exc = FutureEnvelopeError("expected a payload of version 1 or older")
        rescue.keep_unreadable(pack(sent), exc, name=name, id=sent[0].id)
        error = "async_signals.exceptions.FutureEnvelopeError"
        assert subjects(name) == [f"is failing: {error}"]

        operations.retry(Filter(receiver=name), by="ana")
        work(ledger, name)
        assert subjects(name) == ["is failing: OSError", f"has recovered from {error}"]

    def test_a_message_of_which_nothing_can_be_read(self, once, ledger, sent) -> None:
        """Only its receiver is known: people are told of that much."""
        name = once()
        ordered.send(None, number=1)
        wire = sign(json.dumps(json.loads(verified(pack(sent))) | {"v": 99}))
        exc = FutureEnvelopeError("expected an older one")
        for _ in range(2):  # It comes again, and is known.
            rescue.keep_unreadable(wire, exc, name=name, id=sent[0].id)
        assert subjects(name) == ["is failing: async_signals.exceptions.FutureEnvelopeError"]


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_ledger_on_another_database(once, ledger, failures) -> None:
    """Deliveries that are durable elsewhere have their groups there: people are told of these."""

    def receive(**kwargs) -> None:
        if raises:
            raise OSError("no disk")

    raises = [True]
    name = once(receive, durable=True, using="other")
    token = outlet.set(lambda messages: None)
    with transaction.atomic(using="other"):
        ordered.send(None, number=1)
    outlet.reset(token)
    Row.objects.using("other").update(due_at=PAST)
    work("other", name)
    assert failures[0]["using"] == "other"
    assert subjects(name) == ["is failing: OSError"]
    assert not FailureGroup.objects.using(ledger).exists()

    raises.clear()
    operations.retry(Filter(receiver=name), by="ana", using="other")
    work("other", name)
    assert subjects(name) == ["has recovered from OSError"]


class TestQuiet:
    def test_off(self, django_assert_num_queries) -> None:
        """Where no alerts are wanted nothing is asked and nothing is sent."""
        told = {"delivery": delivery(1), "using": "default"}
        with django_assert_num_queries(0):
            signals.delivery_failed.send(NAME, failure=failure(1), **told)
            signals.delivery_succeeded.send(NAME, fingerprint="f" * 32, **told)
        assert mail.outbox == []

    def test_nothing_to_tell(self, admins, django_assert_num_queries) -> None:
        """A success that never failed, and a failure that was not recorded, cost no query."""
        told = {"delivery": delivery(1), "using": "default"}
        with django_assert_num_queries(0):
            signals.delivery_succeeded.send(NAME, fingerprint="", **told)
            signals.delivery_discarded.send(NAME, reason="no", **told)
            signals.delivery_failed.send(NAME, exception=None, failure=None, **told)

    def test_a_broken_ledger(self, admins, caplog, monkeypatch) -> None:
        """Whatever goes wrong is logged and harms nobody."""

        def refuse(*args):
            raise RuntimeError("no table")

        monkeypatch.setattr(groups, "take_alert", refuse)
        monkeypatch.setattr(groups, "alerted", refuse)
        fail(1)
        end(1)
        assert "cannot alert that shop.receive is failing: LookupError." in caplog.text
        assert "cannot tell of the recovery of shop.receive." in caplog.text

    def test_a_pruned_group(self, admins) -> None:
        """A group that is gone when it recovers is nothing to tell of."""
        fail(1)
        FailureGroup.objects.all().delete()
        end(1)
        assert len(mail.outbox) == 1


ALERT = alerts.Alert(
    state="failing", delivery="0199-1", receiver=NAME, exception="", message="", fingerprint="f"
)


def test_titles() -> None:
    """Where a worker died there is no error to name."""
    assert ALERT.title == "shop.receive is failing: its worker died"
    assert dataclasses.replace(ALERT, state="recovered").title == (
        "shop.receive has recovered from deaths of its worker"
    )
