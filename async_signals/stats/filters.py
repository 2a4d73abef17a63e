"""Which deliveries are meant."""

from __future__ import annotations

import dataclasses
import difflib
import uuid
from typing import TYPE_CHECKING

from .. import registry
from ..exceptions import OperationError
from ..ledger.masking import storable
from ..models import State

if TYPE_CHECKING:
    import datetime as dt

    from django.db.models import QuerySet

    from ..models import Delivery

__all__ = ["NAMED_IDS", "Filter"]

#: Ids that are named in words; of more a filter tells how many.
NAMED_IDS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which deliveries are meant; None: any. Without a single id it is none of them.

    Raises:
        ValueError: *state* is none that a delivery has.
    """

    ids: tuple[str, ...] | None = None  #: UUIDs.
    receiver: str | None = None  #: Also under the names that it once had, or has now.
    signal: str | None = None  #: Import path.
    state: str | None = None
    exception: str | None = None  #: Import path of the last error's class.
    fingerprint: str | None = None
    since: dt.datetime | None = None  #: Aware: sent then or later.
    until: dt.datetime | None = None  #: Aware: sent before.

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in State.values:
            close = difflib.get_close_matches(self.state, State.values, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"cannot filter by state {self.state!r}: expected one of "
                f"{sorted(State.values)}.{hint}"
            )

    def __str__(self) -> str:
        words = [
            f"{name}={value}"
            for name in ("receiver", "signal", "state", "exception", "fingerprint")
            if (value := getattr(self, name)) is not None
        ]
        if self.ids is not None:
            more = len(self.ids) - NAMED_IDS
            rest = f" and {more} more" if more > 0 else ""
            words.insert(0, f"id={','.join(self.ids[:NAMED_IDS]) or 'none'}{rest}")
        words += [
            f"{name}={value.isoformat(timespec='seconds')}"
            for name in ("since", "until")
            if (value := getattr(self, name))
        ]
        return " ".join(words) or "all"

    @property
    def keys(self) -> tuple[uuid.UUID, ...]:
        """
        The ids, each once, as keys; none, too, where any are meant.

        Raises:
            OperationError: One of them is not a UUID.
        """
        return tuple(dict.fromkeys(_key_of(text) for text in self.ids or ()))

    def apply(self, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """
        Return *queryset* without what is not meant.

        Raises:
            OperationError: One of the ids is not a UUID.
        """
        names = registry.names_of(self.receiver) if self.receiver is not None else ()
        wanted = {
            "receiver": names[0] if len(names) == 1 else None,
            "receiver__in": names if len(names) > 1 else None,
            "signal": self.signal,
            "state": self.state,
            "exception": self.exception,
            "fingerprint": self.fingerprint,
            "sent_at__gte": self.since,
            "sent_at__lt": self.until,
            "pk__in": self.keys if self.ids is not None else None,
        }
        texts = [value for value in wanted.values() if isinstance(value, str)]
        if any(storable(text) != text for text in texts):
            return queryset.none()  # No text of the ledger has what databases refuse.
        given = {name: value for name, value in wanted.items() if value is not None}
        return queryset.filter(**given)


def _key_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(str(text))
    except ValueError:
        raise OperationError(
            f"cannot find delivery {text!r}: expected a UUID, got: another text. "
            "`manage.py async_signals list` shows ids to copy."
        ) from None
