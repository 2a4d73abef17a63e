"""A model whose saves are transactions: what its signals store is committed with the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections, router, transaction

if TYPE_CHECKING:
    from django.db.models import Model

    Saving = Model
else:
    Saving = object

__all__ = ["AtomicSave"]


class AtomicSave(Saving):
    """
    Goes before ``models.Model``: ``class Order(AtomicSave, models.Model)``.

    In autocommit Django commits a row before it sends ``post_save``. Here ``save()``, and with it
    ``create()`` and the like, commits after the receivers. Deletions need nothing: Django sends
    their signals inside of their transaction.
    """

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as the model does, in a transaction that its receivers share."""
        # As Django finds it; third of the arguments that releases before 6.0 take by position.
        using = kwargs.get("using") or (args[2] if len(args) > 2 else None)
        using = using or router.db_for_write(type(self), instance=self)
        if len(args) < 3:  # A router might name another one when asked again.
            kwargs["using"] = using
        if connections[using].in_atomic_block:
            super().save(*args, **kwargs)
            return
        with transaction.atomic(using=using):
            super().save(*args, **kwargs)
