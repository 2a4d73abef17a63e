"""Pages of a list that may have a million rows: counted up to a cap, and no further."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

__all__ = ["CAP", "CappedPaginator"]

#: Rows that are counted, and that can be paged through; to see others, filter.
CAP = 10_000


class CappedCount(int):
    """A count that stopped at the cap."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """A paginator that counts no more than ``CAP`` rows."""

    @cached_property
    def count(self) -> int:
        """How many there are, or "10,000+"."""
        rows: Any = self.object_list
        # In the order of an index all rows are counted in that index. What a filter leaves is
        # found by the index of the filter, and would only have to be sorted.
        ordered = rows.order_by() if rows.query.where else rows
        number: int = ordered[: CAP + 1].count()
        return CappedCount(CAP) if number > CAP else number
