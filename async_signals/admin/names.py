"""
Names to choose from in filters, without a look at the deliveries.

``SELECT DISTINCT receiver`` reads an index of a million entries, and a loose index scan is a
recursive query that each database plans in its own way. What people filter by is known without:
receivers and signals by this process, which has registered them, and what has failed by the
groups of failures, of which there are few. A value that is chosen already, by a link, is always
among the choices.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .. import registry
from ..exceptions import ReceiverNotFoundError
from ..ledger import alias
from ..models import FailureGroup
from ..signal_paths import paths_of

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["Names", "names_for"]

#: Groups that are looked at: the ones that failed last.
GROUPS = 200
#: Names that a filter offers; the search box finds the others.
CHOICES = 100
_KEPT = "_async_signals_names"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What filters offer, sorted."""

    receivers: tuple[str, ...]
    signals: tuple[str, ...]
    exceptions: tuple[str, ...]


def names_for(request: HttpRequest) -> Names:
    """Return the names, read at most once for each request: 1 query."""
    names: Names | None = getattr(request, _KEPT, None)
    if names is None:
        names = _read()
        setattr(request, _KEPT, names)
    return names


def _read() -> Names:
    groups = FailureGroup.objects.using(alias()).order_by("-last_at")
    failed = list(groups.values_list("receiver", "exception")[:GROUPS])
    known = registry.names()
    return Names(
        receivers=tuple(sorted({*known, *(receiver for receiver, _ in failed)})),
        signals=tuple(sorted({path for name in known for path in _signals_of(name)})),
        exceptions=tuple(sorted({exception for _, exception in failed if exception})),
    )


def _signals_of(name: str) -> set[str]:
    """Return what the ledger calls the signals of a receiver."""
    try:
        signals = registry.get(name).signals
    except ReceiverNotFoundError:  # It is gone: nothing to offer.
        return set()
    return {path for signal in signals for path in paths_of(signal)[:1]}
