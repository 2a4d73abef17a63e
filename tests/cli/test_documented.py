"""docs/command.md names what the command has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from django.core.management import load_command_class

from async_signals.models import State
from tests.ledger.conftest import SENT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command.md").read_text()

#: What Django's own commands have, and what needs no words.
COMMON = {"--help", "--json"}


def verbs() -> dict[str, argparse.ArgumentParser]:
    parser = load_command_class("async_signals", "async_signals").create_parser("manage.py", "x")
    [action] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return action.choices


def test_every_verb_and_option_is_documented() -> None:
    """Each verb has its row, each option is named."""
    for name, verb in verbs().items():
        assert re.search(rf"`{name}[ `]", PAGE), name
        for action in verb._actions:
            if action.option_strings and not COMMON & {*action.option_strings}:
                assert any(f"{each}" in PAGE for each in action.option_strings), action


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_every_key_is_documented(manage, add) -> None:
    """Each key of each document stands on the page."""
    from async_signals.models import Attempt, FailureGroup

    row = add(fingerprint="f")
    Attempt.objects.create(delivery=row, number=1, outcome="raised", started_at=SENT)
    FailureGroup.objects.create(
        fingerprint="f", receiver="x", exception="x", first_at=SENT, last_at=SENT
    )
    documents = [
        manage(*args, "--json").document
        for args in (
            ["retry", row.pk, "--yes"],
            ["list"],
            ["failures"],
            ["show", row.pk],
            ["stats"],
            ["prune", "--dry-run"],
            ["relay", "--once"],
        )
    ]

    def keys(data) -> set[str]:
        if isinstance(data, dict):
            return {*data} | {key for value in data.values() for key in keys(value)}
        return {key for each in data for key in keys(each)} if isinstance(data, list) else set()

    for key in set().union(*map(keys, documents)) - {*State.values}:
        assert f'"{key}"' in PAGE or f"`{key}`" in PAGE, key
