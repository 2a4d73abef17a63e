"""All interleavings up to a bound; and why no part of the ledger can be left out."""

from __future__ import annotations

import pytest

from .delivery import Bounds, Deliveries, Parts
from .explorer import BrokenError, explore


def test_no_order_of_steps_breaks_it() -> None:
    """Two workers, two relays, three crashes, stalls, losses or duplicates, three attempts."""
    found = explore(Deliveries(Bounds()))

    print(f"{found} states")
    assert found > 10_000


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("fence", "two run it at once"),
        ("claim", "committed twice|two run it at once|left its end"),
        ("renewal", "two run it at once"),
        ("republish", "it is lost"),
    ],
)
def test_each_part_is_needed(without, why) -> None:
    """Without it there is an order of steps that breaks a promise; the shortest is told."""
    with pytest.raises(BrokenError, match=why) as raised:
        explore(Deliveries(Bounds(), Parts(**{without: False})))
    print(raised.value)
