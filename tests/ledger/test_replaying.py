"""A recorded event is delivered again, to its receiver or to another one."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet
from django.dispatch import Signal

from async_signals import OperationError, operations
from async_signals.models import Delivery, State
from async_signals.operations import frozen_set
from async_signals.stats import Filter
from async_signals.wire.envelope import load

from .conftest import SENT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

done = Signal()


@pytest.fixture
def add_receiver(connect):
    """Connect a receiver that did not exist before the test."""
    alive = []

    def add_receiver(name, **options):
        def receive(**kwargs) -> None: ...

        alive.append(receive)
        connect(done, receive, name=name, **options)

    return add_receiver


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.DISCARDED])
def test_a_new_delivery_of_the_same_event(add, ledger, state) -> None:
    """The old one stays as it was; the new one is due now and knows what it repeats."""
    old = add(state, number=7)

    operation = operations.replay(Filter(ids=(str(old.pk),)), by="ana")

    new = Delivery.objects.using(ledger).exclude(pk=old.pk).get()
    assert (new.replay_of_id, new.event_id) == (old.pk, old.event_id)
    assert (new.state, new.attempts, new.epoch) == (State.PENDING, 0, 0)
    assert new.due_at > SENT
    assert (new.receiver, new.signal, new.sent_at) == (old.receiver, old.signal, old.sent_at)
    assert new.payload == old.payload
    envelope = load(new.envelope)
    assert (envelope.id, envelope.event_id) == (str(new.pk), str(old.event_id))
    assert envelope.kwargs == {"number": 7}
    assert envelope.replay
    old.refresh_from_db(using=ledger)
    assert old.state == state
    [item] = operation.items.all()
    assert item.outcome == f"delivered again as {new.pk} to shop.receive"


def test_to_receivers_that_came_later(add, ledger, add_receiver) -> None:
    """A receiver that did not exist at the event gets it too, as it was sent."""
    old = add(State.SUCCEEDED)
    add_receiver("shop.send_invoice", upcasters=[lambda kwargs: kwargs])
    add_receiver("shop.second_thought", sensitive=["number"])

    operation = operations.replay(
        Filter(ids=(str(old.pk),)), to=["shop.send_invoice", "shop.second_thought"], by="ana"
    )

    assert (operation.total, operation.changed) == (2, 2)
    assert operation.target == f"id={old.pk} to=shop.send_invoice,shop.second_thought"
    first, second = Delivery.objects.using(ledger).exclude(pk=old.pk).order_by("-receiver")
    assert (first.receiver, second.receiver) == ("shop.send_invoice", "shop.second_thought")
    assert load(first.envelope).receiver == "shop.send_invoice"
    # No upcaster of the other receiver runs over a payload that was never of its older self.
    assert load(first.envelope).payload_version == 2
    assert load(second.envelope).payload_version == 1
    assert json.loads(first.payload)["number"] == 0
    # Masked anew: the first receiver did not call this sensitive.
    assert json.loads(second.payload)["number"] == "••••"


def test_to_nobody_that_is_known(add, add_receiver) -> None:
    """A wrong name is refused before anything is delivered, and the right one is named."""
    add_receiver("shop.send_invoice")
    add()

    with pytest.raises(OperationError) as caught:
        operations.replay(Filter(), to=["shop.send_invoise"], by="ana")

    assert str(caught.value) == (
        "cannot replay to 'shop.send_invoise': expected the name of a receiver, got: one that "
        "neither this process nor the ledger knows. Did you mean 'shop.send_invoice'?"
    )


@pytest.mark.parametrize("state", [State.PENDING, State.PUBLISHED, State.RUNNING])
def test_what_is_on_its_way_is_not_doubled(add, ledger, add_receiver, state) -> None:
    """A live delivery is repeated to other receivers only."""
    add_receiver("shop.send_invoice")
    add(state)

    operation = operations.replay(Filter(), by="ana")

    assert operation.changed == 0
    assert operation.items.get().outcome == ("left: it is still on its way; retry attempts it now")
    assert operations.replay(Filter(), to=["shop.send_invoice"], by="ana").changed == 1
    assert Delivery.objects.using(ledger).count() == 2


def test_one_for_each_event(add, ledger, add_receiver) -> None:
    """However many receivers had the event, and however often it was replayed before."""
    add_receiver("shop.send_invoice")
    first = add(State.SUCCEEDED)
    add(State.FAILED, receiver="shop.others", event=first.event)

    def replay():
        return operations.replay(Filter(signal=first.signal), to=["shop.send_invoice"], by="ana")

    operation = replay()
    invoices = Delivery.objects.using(ledger).filter(receiver="shop.send_invoice")
    new = invoices.get()
    assert (operation.total, operation.changed) == (2, 1)
    outcomes = sorted(item.outcome for item in operation.items.all())
    assert outcomes == [
        f"delivered again as {new.pk} to shop.send_invoice",
        f"left: its event is on its way to shop.send_invoice already, as {new.pk}",
    ]
    assert replay().changed == 0
    invoices.update(state=State.SUCCEEDED, due_at=None)
    assert replay().changed == 1
    invoices.update(state=State.SUCCEEDED, due_at=None)
    assert operations.replay(Filter(receiver="shop.send_invoice"), by="ana").changed == 1


def test_one_for_each_event_in_batches(add, ledger, monkeypatch) -> None:
    """Also where the first was delivered before the second batch is looked at."""
    monkeypatch.setattr(frozen_set, "BATCH", 1)
    first = add(State.SUCCEEDED)
    add(State.SUCCEEDED, event=first.event)

    def deliver(done, total) -> None:
        Delivery.objects.using(ledger).update(state=State.SUCCEEDED, due_at=None)

    operation = operations.replay(Filter(), by="ana", progress=deliver)

    assert (operation.total, operation.changed) == (2, 1)


def test_what_cannot_be_read_any_more(add, settings) -> None:
    """An envelope that was not kept, or whose key is gone, is left, and the item says why."""
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    locked = add()
    settings.ASYNC_SIGNALS = {}
    empty = add(State.SUCCEEDED, envelope="")
    fine = add()

    operation = operations.replay(Filter(), by="ana")

    outcomes = {item.delivery: item.outcome for item in operation.items.all()}
    assert outcomes[empty.pk] == "left: its envelope was not kept"
    assert outcomes[locked.pk].startswith("left: cannot decrypt the message: ")
    assert outcomes[fine.pk].startswith("delivered again as ")
    assert operation.changed == 1


def test_what_is_stored_again_is_encrypted_with_the_keys_of_today(add, ledger, settings) -> None:
    """A replay rotates: it is written with the first of the keys."""
    old = add()
    assert json.loads(old.envelope)
    settings.ASYNC_SIGNALS = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}

    operations.replay(Filter(), by="ana")

    new = Delivery.objects.using(ledger).exclude(pk=old.pk).get()
    assert new.envelope.startswith("fernet:")
