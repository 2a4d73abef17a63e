"""The page about Django's suites lists what the run of them accepts."""

import re
from pathlib import Path

from .expected import NOT_HOLDING

PAGE = Path(__file__).parents[2] / "docs" / "django-suites.md"


def test_page_lists_every_test_that_cannot_hold():
    listed = re.findall(r"^\* `(.+)`$", PAGE.read_text(), re.MULTILINE)
    expected = [test for group in NOT_HOLDING for test in group.tests]
    assert [f"signals.tests.{test}" for test in listed] == expected
