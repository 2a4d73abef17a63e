"""The receivers that a person may name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from .. import registry
from ..exceptions import OperationError, ReceiverNotFoundError
from ..ledger.masking import storable
from ..models import Delivery, Pause

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..registry import Receiver

__all__ = ["known_name", "receiver_called"]


def receiver_called(name: str, what: str) -> Receiver:
    """
    Return the receiver of that name, or once of that name.

    Raises:
        OperationError: This process knows none; it names what is close.
    """
    try:
        return registry.get(name)
    except ReceiverNotFoundError:
        raise _unknown(name, what, set(registry.names())) from None


def known_name(name: str, what: str, *, using: Collection[str]) -> str:
    """
    Return the name that the receiver has now.

    Also of one that only the ledger knows: another release may still have it.

    Args:
        name: The receiver's, or once its name.
        what: What it is named for, in words.
        using: Aliases of the databases to look at.

    Raises:
        OperationError: Neither this process nor the ledger knows it; it names what is close.
    """
    try:
        return registry.get(name).name
    except ReceiverNotFoundError:
        for model in (Delivery, Pause):
            for each in using if storable(name) == name else ():  # Else no ledger has it.
                # MariaDB is exact about capitals only in what begins with a text.
                rows = model._base_manager.using(each).filter(receiver=name)
                if rows.filter(receiver__startswith=name).exists():
                    return name
        stored = {
            name
            for each in using
            for name in Delivery.objects.using(each)
            .order_by()
            .values_list("receiver", flat=True)
            .distinct()
        }
        raise _unknown(name, what, {*registry.names(), *stored}) from None


def _unknown(name: str, what: str, known: set[str]) -> OperationError:
    close = difflib.get_close_matches(name, known, n=1)
    # People remember the last part of a name.
    close = close or sorted(each for each in known if each.rpartition(".")[2] == name)[:1]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return OperationError(
        f"cannot {what} {name!r}: expected the name of a receiver, got: one that neither this "
        f"process nor the ledger knows.{hint}"
    )
