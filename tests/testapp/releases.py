"""
Receivers of several releases of one site; a process has those of the release that is named.

The tests themselves are the site's web processes, of any release: see ``receivers_of()``.
"""

import os

from django.dispatch import Signal

from async_signals import Retry, connect, current_delivery

from .reports import report

ordered = Signal()

#: Of the process; empty: none of these receivers.
RELEASE = os.environ.get("ASYNC_SIGNALS_TEST_RELEASE", "")


def split_address(kwargs):
    """From release 1, which sent one address, to release 2, which sends its parts."""
    kwargs["street"], _, kwargs["city"] = kwargs.pop("address").partition(", ")
    return kwargs


def receivers_of(release: str) -> dict[str, tuple]:
    """Return functions and options of a release's receivers, by their names."""

    def ship_1(sender, number, address, **kwargs):
        _report("ship", release, number, address=address)

    def ship_2(sender, number, street, city, **kwargs):
        _report("ship", release, number, street=street, city=city)

    def invoice(sender, number, **kwargs):
        _report("invoice", release, number)

    durable = {"durable": True, "retry": Retry(initial_delay=0)}
    return {
        "1": {"shop.ship": (ship_1, durable)},
        "2": {
            "shop.ship": (ship_2, {**durable, "upcasters": [split_address]}),
            "shop.invoice": (invoice, durable),
        },
        "2 without upcasters": {"shop.ship": (ship_2, durable)},
        "renamed": {"shop.dispatch": (ship_1, {**durable, "aliases": ["shop.ship"]})},
        "removed": {"shop.invoice": (invoice, durable)},
    }[release]


def _report(kind, release, number, **what):
    told = current_delivery()
    report(kind=kind, release=release, number=number, receiver=told.receiver, **what)


#: Kept alive: receivers live as long as their functions.
ALIVE = receivers_of(RELEASE) if RELEASE else {}
for _name, (_function, _options) in ALIVE.items():
    connect(ordered, _function, name=_name, **_options)
