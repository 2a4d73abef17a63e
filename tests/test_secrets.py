"""A secret that a delivery carries stands nowhere that people look, and encrypted where it must."""

from __future__ import annotations

import datetime as dt
import io
import logging

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.views.decorators.debug import sensitive_variables

from async_signals import Retry, operations, robust, signals
from async_signals.ids import new_id
from async_signals.ledger import claims, records
from async_signals.ledger.deaths import take_dead_claims
from async_signals.models import Claim, Delivery, Event
from async_signals.stats import Filter
from async_signals.wire.envelope import Reference, dump, pack

Coded = apps.get_model("testapp", "Coded")

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

charged = Signal()
SECRETS = (
    "kwarg-4f1c9e7a",
    "field-8d2b6c3e",
    "declared-1a7e5d9f",
    "local-6b3f8c2d",
    "deep-9c4e1f7b",
    "sender-7e2a4b8d",
    "key-3d6f0a9c",
)


def everything_in(using: str) -> str:
    """All that the tables of the ledger hold, as one text."""
    with connections[using].cursor() as cursor:
        found = []
        for model in apps.get_app_config("async_signals").get_models():
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            found += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(found)


@pytest.fixture
def fail(connect, sent, ledger, settings):
    """A delivery with a secret in every place, whose receiver fails and names them all."""

    def run() -> Delivery:
        @sensitive_variables("number_of_card")
        def charge(sender, instance, user, password, note, options, **kwargs):
            number_of_card = SECRETS[3]
            raise ValueError(
                f"cannot charge {user.password} {password} {note} {number_of_card} "
                f"{options['api_key']} {sender} {instance.pk} of order 7"
            )

        name = f"tests.secrets.{new_id()}"
        connect(
            charged,
            charge,
            name=name,
            robust=True,
            retry=Retry(max_attempts=1),
            sensitive=["note", "sender", "instance"],
        )
        user = User(username="ann", password=SECRETS[1])
        charged.send(
            SECRETS[5],
            instance=Coded.objects.create(key=SECRETS[6]),
            user=user,
            password=SECRETS[0],
            note=SECRETS[2],
            options={"api_key": SECRETS[4], "colour": "blue"},
        )
        [result] = robust.run(pack(sent), name=name, worker="w@test/1")
        assert result.state == "failed"
        assert not [secret for secret in SECRETS if secret in result.told]
        return Delivery.objects.using(ledger).get()

    return run


def test_nothing_of_it_is_in_the_database(fail, ledger, settings) -> None:
    """With keys for encryption, a search through every table finds no secret."""
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}

    row = fail()

    assert not [secret for secret in SECRETS if secret in everything_in(ledger)]
    assert "cannot charge •" in row.message
    assert "order 7" in row.message
    assert '"colour": "blue"' in row.payload


def test_without_keys_it_is_only_where_it_is_needed(fail, ledger) -> None:
    """Only the envelope has it, which is needed to deliver again, and which no page shows."""
    row = fail()

    assert SECRETS[0] in row.envelope
    Delivery.objects.using(ledger).update(envelope="")
    assert not [secret for secret in SECRETS if secret in everything_in(ledger)]


def test_nothing_of_it_is_in_the_log(fail, ledger, caplog) -> None:
    """Neither the failure's line nor what follows quotes it."""
    caplog.set_level(logging.DEBUG)

    row = fail()
    operations.discard(Filter(ids=(str(row.pk),)), by="ana", reason="no longer needed")

    assert "cannot charge" in caplog.text
    assert not [secret for secret in SECRETS if secret in caplog.text]


KEY = "planted0session0key0e7c1a"


class TestDeclared:
    """An event has its sender and the key of its instance for people: not where they are secret."""

    @pytest.mark.parametrize(
        ("sensitive", "expected"),
        [((), ("shop", KEY)), (["sender"], ("", KEY)), (["instance"], ("shop", ""))],
    )
    @pytest.mark.parametrize(
        "options",
        [
            {"robust": True, "coalesce": True},
            {"robust": True, "unique_by": ["sender", "instance"], "unique_for": 60},
            {"durable": True, "order_by": "instance.pk"},
        ],
        ids=["coalesce", "unique_by", "order_by"],
    )
    def test_of_an_event(self, connect, sent, ledger, sensitive, expected, options) -> None:
        """What is declared is hidden, also where keys are made of it; the receiver gets it all."""
        got = []

        def receive(sender, instance, **kwargs):
            got.append((sender, instance.pk))
            raise ValueError("no")

        name = f"tests.secrets.{new_id()}"
        connect(charged, receive, name=name, using=ledger, sensitive=sensitive, **options)
        coded = Coded(key=KEY)
        coded.save(using=ledger)
        with transaction.atomic(using=ledger):
            for _ in range(1 if "durable" in options else 2):
                charged.send("shop", instance=coded)
        [travelling] = sent
        if "durable" in options:
            travelling = Reference(
                id=travelling.id, receiver=name, epoch=0, using=ledger, ordered=True
            )
        robust.run(pack([travelling]), name=name, worker="w@test/1")

        assert got == [("shop", KEY)]
        event = Event.objects.using(ledger).get()
        assert (event.sender, event.instance_pk) == expected
        row = Delivery.objects.using(ledger).get()
        assert ('"shop"' in row.payload, KEY in row.payload) == tuple(map(bool, expected))

    def test_another_receiver_has_brought_the_sender(self, connect, sent, ledger) -> None:
        """Deliveries of one event share it: one that hides the sender hides it for all."""
        receivers = [lambda **kwargs: fails() for _ in range(2)]
        for receiver, sensitive in zip(receivers, [(), ("sender",)], strict=True):
            name = f"tests.secrets.{new_id()}"
            connect(charged, receiver, name=name, robust=True, sensitive=sensitive)
        charged.send("shop")
        senders = []
        for each in sent:
            robust.run(pack([each]), name=each.receiver, worker="w@test/1")
            senders.append(Event.objects.using(ledger).get().sender)
        assert senders == ["shop", ""]


def people_see(using: str) -> str:
    """What stands in the tables but the envelopes, in ``show``, and in the admin."""
    Delivery.objects.using(using).update(envelope="")
    Claim.objects.using(using).update(envelope="")
    row = Delivery.objects.using(using).get()
    shown = io.StringIO()
    call_command("async_signals", "show", str(row.pk), stdout=shown)
    call_command("async_signals", "show", str(row.pk), "--json", stdout=shown)
    return everything_in(using) + shown.getvalue()


class TestPrimaryKeys:
    """A primary key whose field has a secret's name is a secret."""

    @pytest.fixture
    def send(self, connect, sent, ledger):
        """Save a session, for a receiver that names it when it fails."""

        def run(**options) -> str:
            def receive(instance, **kwargs):
                raise ValueError(f"no basket for {instance.session_key}")

            name = f"tests.secrets.{new_id()}"
            options = {"retry": Retry(max_attempts=1), **options}
            connect(post_save, receive, sender=Session, name=name, robust=True, **options)
            never = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
            Session.objects.create(session_key=KEY, session_data="x", expire_date=never)
            return name

        return run

    @pytest.mark.parametrize("instance", ["reference", "snapshot", "both"])
    def test_where_the_receiver_fails(self, send, sent, ledger, caplog, instance) -> None:
        """It is in no column but the envelope, in no log, and not in ``show``."""
        caplog.set_level(logging.DEBUG, "async_signals")
        name = send(instance=instance)
        robust.run(pack(sent), name=name, worker="w@test/1")
        assert "no basket for" in Delivery.objects.using(ledger).get().message
        assert KEY not in people_see(ledger) + caplog.text
        if instance != "snapshot":
            assert Event.objects.using(ledger).get().instance_model == "sessions.session"

    @pytest.mark.parametrize("missing", ["fail", "retry", "skip"])
    def test_where_the_row_is_gone(self, send, sent, ledger, caplog, missing) -> None:
        """Nor does the error that no row has the key show it."""
        caplog.set_level(logging.DEBUG, "async_signals")
        name = send(missing=missing)
        Session.objects.all().delete()
        robust.run(pack(sent), name=name, worker="w@test/1")
        assert "session" in caplog.text
        assert KEY not in caplog.text
        if missing != "skip":
            assert KEY not in people_see(ledger)

    def test_where_the_worker_dies(self, send, sent, ledger) -> None:
        """Nor what the relay finds, which never calls the receiver."""
        send()
        claims.claim(sent[0], dump(sent[0]), worker="w@test/1")
        Claim.objects.using(ledger).update(expires_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        assert take_dead_claims(ledger, limit=1)
        assert KEY not in people_see(ledger)

    def test_on_the_page_of_the_admin(self, send, sent, ledger, admin_client) -> None:
        """Neither the list nor the page of a delivery has it."""
        name = send()
        robust.run(pack(sent), name=name, worker="w@test/1")
        row = Delivery.objects.using(ledger).get()
        pages = [
            admin_client.get("/admin/async_signals/delivery/"),
            admin_client.get(f"/admin/async_signals/delivery/{row.pk}/change/"),
            admin_client.get("/admin/async_signals/event/"),
        ]
        assert [page.status_code for page in pages] == [200] * 3
        assert not [page for page in pages if KEY in page.content.decode()]
        assert "sessions.session" in pages[0].content.decode()

    @pytest.mark.parametrize(
        ("sensitive", "key"), [(["pk"], ""), (["id"], ""), (["username"], "4711")]
    )
    def test_declared(self, connect, sent, ledger, sensitive, key) -> None:
        """A key may be declared by the name of its field, or as ``pk``, however short it is."""
        name = f"tests.secrets.{new_id()}"
        connect(charged, fails, name=name, robust=True, sensitive=sensitive)
        charged.send(None, instance=User.objects.create(pk=4711))
        robust.run(pack(sent), name=name, worker="w@test/1")
        assert Event.objects.using(ledger).get().instance_pk == key
        assert ("4711" in Delivery.objects.using(ledger).get().payload) is bool(key)

    def test_another_receiver_has_brought_it(self, connect, sent, ledger) -> None:
        """Deliveries of one event share it: one that hides the key hides it for all."""
        receivers = [lambda **kwargs: fails() for _ in range(3)]
        for receiver, sensitive in zip(receivers, [(), ("id",), ()], strict=True):
            name = f"tests.secrets.{new_id()}"
            connect(charged, receiver, name=name, robust=True, sensitive=sensitive)
        charged.send(None, instance=User.objects.create(pk=4711))
        keys = []
        for each in sent:
            robust.run(pack([each]), name=each.receiver, worker="w@test/1")
            keys.append(Event.objects.using(ledger).get().instance_pk)
        assert keys == ["4711", "", ""]

    def test_nobody_knows_the_receiver(self, envelope, ledger) -> None:
        """What the site's patterns say holds; an unknown model has only a ``pk``."""
        for number, label in enumerate(("sessions.session", "gone.model")):
            reference = {"$": "model", "v": [label, "default", KEY, None]}
            kept = type(envelope)(
                id=new_id(),
                event_id=new_id(),
                receiver="gone.receive",
                signal=None,
                sent=envelope.sent,
                sender=None,
                kwargs={"instance": reference},
            )
            assert records.stored([kept], using=ledger) == [kept]
            event = Event.objects.using(ledger).get(pk=kept.event_id)
            assert event.instance_pk == ("" if number == 0 else KEY)


def fails(*args, **kwargs):
    raise ValueError("no")


class TestAtSend:
    """What the site's code raises while an event is sent may quote its arguments."""

    def test_when(self, connect, ledger, caplog) -> None:
        """Neither the log nor the ledger has what ``when`` quotes."""

        def when(sender, token, note, **kwargs):
            raise ValueError(f"bad token {token}, note {note}")

        name = f"tests.secrets.{new_id()}"
        connect(charged, fails, name=name, robust=True, when=when, sensitive=["note"])
        charged.send(None, token=SECRETS[0], note=SECRETS[1])
        assert "ValueError: bad token •" in caplog.text
        assert "bad token •" in Delivery.objects.using(ledger).get().message
        assert not [s for s in SECRETS if s in caplog.text + everything_in(ledger)]

    def test_the_keys_of_what_cannot_travel(self, connect, ledger, caplog) -> None:
        """Nor the way to it: the keys of a dict may be data."""
        connect(charged, fails, name=f"tests.secrets.{new_id()}", robust=True)
        charged.send(None, tokens={SECRETS[0]: object()})
        assert "cannot send 'tokens[...]' to " in caplog.text
        assert "cannot send 'tokens[...]' to " in Delivery.objects.using(ledger).get().message
        assert SECRETS[0] not in caplog.text + everything_in(ledger)

    def test_values_that_cannot_be_compared(self, connect, sent, caplog) -> None:
        """Nor what they raise where deliveries would become one."""

        class Token(str):
            __slots__ = ()
            __hash__ = str.__hash__

            def __ne__(self, other):
                raise ValueError(f"cannot compare {self!s}")

        def receive(**kwargs): ...

        name = f"tests.secrets.{new_id()}"
        connect(
            post_save,
            receive,
            sender=User,
            name=name,
            robust=True,
            coalesce=True,
            track_changes=["first_name"],
            exclude=["changes"],
        )
        with transaction.atomic():
            user = User.objects.create(username="ann")
        with transaction.atomic():
            for name in "first", "second":
                user.first_name = Token(f"{SECRETS[0]}-{name}")
                user.save()
        assert SECRETS[0] not in caplog.text

    def test_the_database_of_unique_events(self, ledger, caplog, monkeypatch, connect) -> None:
        """Nor what the database says when it cannot be asked."""
        from async_signals.ledger import uniqueness

        def refuse(*args):
            token = SECRETS[0]
            raise RuntimeError(f"no {token}")

        monkeypatch.setattr(uniqueness, "_unsent_of", refuse)
        name = f"tests.secrets.{new_id()}"
        connect(charged, fails, name=name, robust=True, unique_by=["number"], unique_for=9)
        charged.send(None, number=1)
        assert "RuntimeError: no •" in caplog.text
        assert SECRETS[0] not in caplog.text


def test_receivers_of_the_lifecycle(fail, ledger, caplog) -> None:
    """They have the error as it was raised: what they raise is logged by its type and place."""

    def tell(exception, **kwargs):
        raise RuntimeError(f"cannot tell of {exception}") from exception

    signals.delivery_failed.connect(tell)
    try:
        fail()
    finally:
        signals.delivery_failed.disconnect(tell)
    ours = [each for each in caplog.records if each.name == "async_signals"]
    [record] = [each for each in ours if "RuntimeError at" in each.getMessage()]
    assert record.exc_info is None
    assert "tell failed for" in record.getMessage()
    assert f"{__file__}:{tell.__code__.co_firstlineno + 1} in tell." in record.getMessage()
    assert not [s for s in SECRETS for each in ours if s in each.getMessage()]
