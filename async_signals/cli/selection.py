"""Which deliveries somebody means on the command line."""

from __future__ import annotations

import difflib
import uuid
from typing import TYPE_CHECKING, Any

from django.db import connections

from .. import stats
from ..exceptions import OperationError
from ..ledger import alias
from ..models import State
from ..operations import known_name
from ..stats import Filter
from ..stats.deliveries import HEX_DIGITS
from .moments import moment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["add_database", "add_filter", "add_ids", "database_of", "filter_of", "short_ids"]

#: Characters of an id that are shown at least: all of its milliseconds, and a bit of chance.
SHORTEST = 18


def add_ids(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take ids of deliveries."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="a UUID, or the beginning of one")


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take what narrows a set of deliveries."""
    group = parser.add_argument_group("which deliveries")
    group.add_argument("--receiver", metavar="NAME", help="of this receiver")
    group.add_argument("--signal", metavar="PATH", help="of this signal, by its import path")
    group.add_argument("--state", metavar="STATE", help=f"one of {', '.join(State.values)}")
    group.add_argument("--exception", metavar="PATH", help="that last raised this class")
    group.add_argument(
        "--group", "--fingerprint", dest="fingerprint", metavar="FP", help="of this failure group"
    )
    group.add_argument("--since", type=moment, metavar="T", help="sent since: 2h, 7d or a date")
    group.add_argument("--until", type=moment, metavar="T", help="sent before: 2h, 7d or a date")


def add_database(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take the database that is meant."""
    parser.add_argument(
        "--database", metavar="ALIAS", help="on this database; default: that of the routers"
    )


def database_of(options: Mapping[str, Any]) -> str:
    """
    Return the alias of the database that is meant.

    Raises:
        OperationError: There is none of that alias.
    """
    database = options.get("database") or alias()
    if database in connections:
        return database
    close = difflib.get_close_matches(database, connections, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OperationError(
        f"cannot use database {database!r}: expected one of {sorted(connections)}.{hint}"
    )


def filter_of(options: Mapping[str, Any]) -> Filter:
    """
    Return the filter that the options mean.

    Raises:
        OperationError: An unknown receiver or state, or an id that is none or not the only one.
    """
    receiver, using = options["receiver"], database_of(options)
    if receiver is not None:
        known_name(receiver, "filter by receiver", using=[using])
    ids = _found_ids(options["ids"], using) if options.get("ids") else None
    try:
        return Filter(
            ids=ids,
            receiver=receiver,
            signal=options["signal"],
            state=options["state"],
            exception=options["exception"],
            fingerprint=options["fingerprint"],
            since=options["since"],
            until=options["until"],
        )
    except ValueError as exc:
        raise OperationError(str(exc)) from exc


def short_ids(keys: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return for each id as much of its beginning as tells it from the others."""
    keys = list(keys)
    texts = sorted(map(str, keys))
    short = {}
    for index, text in enumerate(texts):
        beside = texts[max(0, index - 1) : index] + texts[index + 1 : index + 2]
        length = SHORTEST
        while any(other[:length] == text[:length] for other in beside):
            length += 1
        short[text] = text[:length].rstrip("-")
    return {key: short[str(key)] for key in keys}


def _found_ids(texts: Iterable[str], using: str) -> tuple[str, ...]:
    """
    Return the ids that begin with these texts.

    Raises:
        OperationError: No delivery has an id that begins so, or several have.
    """
    whole = Filter(ids=tuple(text for text in texts if len(text.replace("-", "")) == HEX_DIGITS))
    there = stats.existing(whole.keys, using=using)
    return tuple(str(_found_id(text, there, using)) for text in texts)


def _found_id(text: str, there: Collection[uuid.UUID], using: str) -> uuid.UUID:
    if len(text.replace("-", "")) == HEX_DIGITS:
        key = uuid.UUID(text)
        found = key if key in there else None
    else:
        found = stats.matching(text, using=using)
    if found is None:
        raise OperationError(
            f"cannot find delivery {text!r}: expected the beginning of an id in the ledger, got: "
            "one of none. `manage.py async_signals list` shows ids to copy."
        )
    return found
