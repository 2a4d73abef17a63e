"""The deliveries that somebody has chosen: frozen when asked about, and not to be forged."""

from __future__ import annotations

import base64
import collections
import dataclasses
import uuid
from typing import TYPE_CHECKING, Any

from django.core import signing
from django.utils.crypto import get_random_string

from ..ledger import alias, once
from .paging import CAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet
    from django.http import HttpRequest

__all__ = ["Choice"]

#: Seconds in which the question has to be answered.
LONGEST = 3600
_SALT = "async_signals.admin.choice"
_WIDTH = 16  # Bytes of a UUID.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    Up to ``CAP`` deliveries for one verb, chosen by one user.

    It travels in the page that asks, signed: what is done is done to exactly those that the page
    has counted, and to none that this user's admin does not list.
    """

    verb: str
    ids: tuple[str, ...]
    back: str  #: Path to return to.
    states: Mapping[str, int] = dataclasses.field(default_factory=dict)
    is_cut: bool = False  #: There were more; these are the oldest.

    @classmethod
    def freeze(cls, verb: str, queryset: QuerySet[Any], *, back: str) -> Choice:
        """Choose the oldest of *queryset*: 1 query."""
        rows = queryset.order_by("sent_at", "pk").values_list("pk", "state")[: CAP + 1]
        found = list(rows)
        return cls(
            verb=verb,
            ids=tuple(str(key) for key, _ in found[:CAP]),
            back=back,
            states=dict(collections.Counter(state for _, state in found[:CAP])),
            is_cut=len(found) > CAP,
        )

    def signed(self, request: HttpRequest) -> str:
        """Return a text that only this user can hand back."""
        packed = b"".join(uuid.UUID(key).bytes for key in self.ids)
        return signing.dumps(
            {
                "verb": self.verb,
                "ids": base64.b64encode(packed).decode(),
                "back": self.back,
                "user": str(request.user.pk),
                "nonce": get_random_string(12),  # Two questions about the same are two.
            },
            salt=_SALT,
        )

    @classmethod
    def returned(cls, request: HttpRequest, verb: str) -> Choice | None:
        """Return what the user was asked about; None: it was another one, or too long ago."""
        try:
            data = signing.loads(request.POST.get("choice", ""), salt=_SALT, max_age=LONGEST)
        except signing.BadSignature:
            return None
        if data["verb"] != verb or data["user"] != str(request.user.pk):
            return None
        packed = base64.b64decode(data["ids"])
        cuts = range(0, len(packed), _WIDTH)
        ids = tuple(str(uuid.UUID(bytes=packed[at : at + _WIDTH])) for at in cuts)
        return cls(verb=verb, ids=ids, back=data["back"])

    @staticmethod
    def is_answered_first(request: HttpRequest) -> bool:
        """Whether this question was not answered before; of two answers at once, one is first."""
        text = request.POST.get("choice", "")
        return once.is_first(text, seconds=LONGEST, using=alias())
