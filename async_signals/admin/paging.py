"""Pages of a list that may have a million rows: counted up to a cap, and no further."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models.expressions import RawSQL
from django.utils.functional import cached_property

__all__ = ["CAP", "CappedPaginator"]

#: Rows that are counted, and that can be paged through; to see others, filter.
CAP = 10_000
#: Rows that are skipped whole to get to a page, at most; of more the keys alone are read.
NEAR = 1_000


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
        number: int = ordered.values("pk")[: CAP + 1].count()
        return CappedCount(CAP) if number > CAP else number

    def page(self, number: int | str) -> Page[Any]:
        """Return a page; of a far one MariaDB would read and sort every row, not the index."""
        page: Page[Any] = super().page(number)
        skipped = (page.number - 1) * self.per_page
        if skipped >= NEAR:
            page.object_list = self._by_key(page.object_list)
        return page

    def _by_key(self, some: Any) -> Any:
        rows: Any = self.object_list
        sql, params = some.values("pk").query.get_compiler(rows.db).as_sql()
        # In a table of its own: no limit may stand in the subquery itself.
        keys = f"SELECT * FROM ({sql}) page"  # noqa: S608  (the ORM's own SQL)
        return rows.filter(pk__in=RawSQL(keys, params))  # noqa: S611  (as above)
