"""What may be typed after ``manage.py async_signals``."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from . import changing, doctor, reading, relaying
from .moments import duration, moment
from .selection import add_database, add_filter, add_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.management.base import CommandParser

__all__ = ["add_verbs"]

EXIT_CODES = (
    "exit codes: 0 all is well; 1 something is broken, or nothing matched; 2 it was used wrongly; "
    "69 no worker or broker answers. The documents of --json are described in docs/command.md."
)


def add_verbs(parser: CommandParser) -> None:
    """Let *parser* take one verb with its own arguments."""
    parser.epilog = EXIT_CODES
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, run: Callable[..., int], words: str) -> argparse.ArgumentParser:
        verb: argparse.ArgumentParser = verbs.add_parser(
            name, help=words, description=words, epilog=EXIT_CODES
        )
        verb.set_defaults(run=run)
        verb.add_argument("--json", action="store_true", help="one stable document, for scripts")
        # Django takes it before the verb only.
        verb.add_argument("--no-color", action="store_true", default=argparse.SUPPRESS)
        return verb

    _add_reading(add)
    _add_changing(add)
    verb = add("relay", relaying.relay, "publish what is due, apart from the workers")
    verb.add_argument("--once", action="store_true", help="what is due now, then end")
    verb = add("doctor", doctor.doctor, "look at everything that deliveries need, and say the cure")
    verb.add_argument(
        "--backlog", action="store_true",
        help="whether this code can deliver what waits or has failed, and nothing else",
    )  # fmt: skip


def _add_reading(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add("list", reading.list_deliveries, "list deliveries in the ledger, newest first")
    add_filter(verb)
    add_database(verb)
    verb.add_argument("--limit", type=_positive, default=50, metavar="N", help="default: 50")
    verb = add("failures", reading.failures, "list failures, equal ones in one line")
    verb.add_argument("--since", type=moment, metavar="T", help="that failed since: 2h, 7d, a date")
    verb.add_argument("--limit", type=_positive, default=50, metavar="N", help="default: 50")
    add_database(verb)
    verb = add("show", reading.show, "show one delivery, its attempts and its audit")
    verb.add_argument("id", metavar="ID", help="a UUID, or the beginning of one")
    verb.add_argument(
        "--traceback", dest="is_full", action="store_true", help="all frames, not only the site's"
    )
    add_database(verb)
    add_database(add("stats", reading.stats_of_all, "count deliveries by receiver and state"))


def _add_changing(add: Callable[..., argparse.ArgumentParser]) -> None:
    words = {
        "retry": "attempt failed or waiting deliveries now, with all their attempts",
        "discard": "give failed or waiting deliveries up, with a reason",
        "replay": "deliver recorded events again, also those that succeeded",
    }
    for name, text in words.items():
        verb = add(name, changing.change, text)
        add_ids(verb)
        add_filter(verb)
        verb.add_argument("--all", action="store_true", help="all that the verb applies to")
        _add_care(verb, needs_reason=name == "discard")
        if name == "replay":
            verb.add_argument(
                "--to", action="append", default=[], metavar="NAME",
                help="to this receiver instead; may be given several times",
            )  # fmt: skip
    for name, text in (
        ("pause", "let the deliveries of a receiver wait"),
        ("resume", "let the deliveries of a receiver go on"),
    ):
        verb = add(name, changing.pause_or_resume, text)
        verb.add_argument("receiver", metavar="NAME")
        verb.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")
    verb = add("prune", changing.prune, "delete what is over; never what failed")
    verb.add_argument(
        "--older-than", type=duration, metavar="T", help="over for so long: 12h, 30d; default: "
        "as KEEP_SUCCEEDED and KEEP_HANDLED say",
    )  # fmt: skip
    _add_care(verb, needs_reason=False)


def _add_care(verb: argparse.ArgumentParser, *, needs_reason: bool) -> None:
    add_database(verb)
    verb.add_argument("--dry-run", action="store_true", help="say what would be changed")
    verb.add_argument("--yes", action="store_true", help="do not ask")
    verb.add_argument("--limit", type=_positive, metavar="N", help="at most so many, oldest first")
    verb.add_argument(
        "--reason", default="", required=needs_reason, metavar="TEXT", help="why, for the audit"
    )


def _positive(text: str) -> int:
    number = int(text) if re.fullmatch(r"\d{1,9}", text) else 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number above 0, and at most 999,999,999, got: {text!r}"
        )
    return number
