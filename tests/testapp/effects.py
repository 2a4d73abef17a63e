"""
Receivers whose effects are counted, one for each mode.

Every start and every effect is one line of a file that is only appended to, so that it is
known whatever becomes of the process and of the database. Where effects happen once, each is a
row, too, of the database that has the delivery: the rows are what counts.
"""

import json
import os
import signal
import time
from pathlib import Path

from celery import shared_task
from django.db import transaction
from django.dispatch import Signal, receiver

from async_signals import Retry, async_receiver, current_delivery
from async_signals.publisher import celery_app

from .models import Applied

by_hand_happened = Signal()
plain_happened = Signal()
robust_happened = Signal()
durable_happened = Signal()
once_happened = Signal()
late_happened = Signal()
durable_late_happened = Signal()
limited_happened = Signal()
limited_once_happened = Signal()
new_happened = Signal()
ordered_happened = Signal()
durable_new_happened = Signal()

QUICK = Retry(initial_delay=0, max_attempts=4)
#: More than a busy machine needs for the first run of a process.
LIMITS = {"retry": QUICK, "soft_time_limit": 4, "time_limit": 6}


@shared_task
def by_hand(run, number, orders):
    apply(run, number, orders)


@receiver(by_hand_happened)
def send_by_hand(sender, run, number, using, orders=(), **kwargs):
    """What a site writes that has Celery and not this package: the control of all faults."""
    arguments = (run, number, list(orders))
    transaction.on_commit(lambda: celery_app().send_task(by_hand.name, arguments), using=using)


@async_receiver(plain_happened)
def plain(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(robust_happened, robust=True, retry=QUICK)
def robust(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(durable_happened, durable=True, retry=QUICK)
def durable(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(once_happened, durable=True, effect="once", retry=QUICK)
def once(sender, run, number, using, orders=(), **kwargs):
    return apply(run, number, orders, using)


@async_receiver(late_happened, robust=True, countdown=3)
def late(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(durable_late_happened, durable=True, countdown=3)
def durable_late(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(limited_happened, robust=True, **LIMITS)
def limited(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(ordered_happened, durable=True, order_by="key", retry=QUICK)
def ordered(sender, run, number, orders=(), **kwargs):
    return apply(run, number, orders)


@async_receiver(limited_once_happened, durable=True, effect="once", **LIMITS)
def limited_once(sender, run, number, using, orders=(), **kwargs):
    return apply(run, number, orders, using)


if "ASYNC_SIGNALS_TEST_OLD" not in os.environ:  # An older release of this app has not got it.

    @async_receiver(new_happened, robust=True, retry=QUICK)
    def newcomer(sender, run, number, orders=(), **kwargs):
        return apply(run, number, orders)

    @async_receiver(durable_new_happened, durable=True, retry=QUICK)
    def durable_newcomer(sender, run, number, orders=(), **kwargs):
        return apply(run, number, orders)


def apply(run, number, orders, using=None):
    """
    Do what the order for this run of the receiver says; without one, have the effect.

    The effect is a row of the database *using*, too, where that is given.
    """
    _write(run, "start", number)
    order = _order(run, number, orders) if orders else ""
    for step in order.split():
        match step.split(":"):
            case ["effect"]:
                _affect(run, number, using)
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["wait", seconds]:
                time.sleep(float(seconds))
            case ["hold", name]:  # Until the test lets it go.
                while (_folder() / name).exists():
                    time.sleep(0.01)
            case ["raise", *texts]:
                raise OSError("ordered to fail", *texts)
            case ["exit"]:
                raise SystemExit(1)
            case ["interrupt"]:
                raise KeyboardInterrupt
            case ["recurse"]:
                apply_forever()
            case ["return"]:
                _affect(run, number, using)
                return object()
            case ["hang"]:
                _hang(is_stubborn=False)
            case ["stubborn"]:
                _hang(is_stubborn=True)
    if "effect" not in order:
        _affect(run, number, using)
    return None


def apply_forever() -> None:
    apply_forever()


def _hang(*, is_stubborn: bool) -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:
            if not is_stubborn:
                raise


def _folder() -> Path:
    return Path(os.environ["ASYNC_SIGNALS_TEST_FOLDER"])


def _order(run, number, orders) -> str:
    with (_folder() / f"order-{run}-{number}").open("a") as file:
        file.write(".")
        place = file.tell() - 1
    return orders[place] if place < len(orders) else ""


def _affect(run, number, using) -> None:
    if using is not None:
        Applied.objects.using(using).create(run=run, number=number, at=time.monotonic())
    _write(run, "effect", number)


def _write(run, what, number) -> None:
    delivery = current_delivery()
    line = json.dumps(
        {
            "what": what,
            "number": number,
            "pid": os.getpid(),
            "at": time.monotonic(),  # Of one clock in all processes of a host.
            "delivery": delivery.id if delivery is not None else None,
            "attempt": delivery.attempt if delivery is not None else None,
        }
    )
    handle = os.open(_folder() / f"effects-{run}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # One write: lines of two processes do not mix. One that was killed in it left a part.
        os.write(handle, f"\n{line}\n".encode())
    finally:
        os.close(handle)
