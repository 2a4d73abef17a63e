"""The mutants themselves: who notices them takes minutes to see, ``nox -s mutants``."""

from __future__ import annotations

import pytest

from .mutants import NAMES, mutated


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_the_product(name) -> None:
    """What it puts another in the place of is there; else it would break nothing, or all."""
    with mutated(name):
        pass
