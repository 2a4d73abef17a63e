"""Small rows that several processes agree by."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .ledger import Delivery

__all__ = ["Claim", "Throttle", "Turn", "UniqueEvent"]


class Claim(models.Model):
    """
    Who owns a robust delivery that travelled whole: a worker that runs it, or the ledger.

    Made once for each delivery; whoever comes second finds it and leaves the delivery alone.
    While a worker runs, it holds what is needed to deliver again. Afterwards it is a receipt,
    kept for a day, so that a message that comes twice is known.
    """

    id = models.UUIDField(_("delivery"), primary_key=True)
    receiver = models.CharField(_("receiver"), max_length=255)
    done = models.BooleanField(_("done"), default=False)
    #: By the database's clock. Running: end of the lease; done: when the receipt is pruned.
    expires_at = models.DateTimeField(_("expires at"))
    worker = models.CharField(_("worker"), max_length=255, blank=True)
    process = models.CharField(_("process"), max_length=64, blank=True)  #: The worker's own.
    started_at = models.DateTimeField(_("started at"))  #: By the database's clock.
    envelope = models.TextField(_("envelope"), blank=True)  #: As in ``Delivery``; done: empty.

    class Meta:
        verbose_name = _("claim")
        verbose_name_plural = _("claims")
        indexes = [models.Index(fields=["done", "expires_at"], name="async_signals_claim_expires")]

    def __str__(self) -> str:
        return f"{self.receiver} {self.id}"


class UniqueEvent(models.Model):
    """What ``unique_by`` has seen, until ``unique_for`` seconds are over."""

    key = models.CharField(_("key"), max_length=64, primary_key=True)  #: A SHA-256, in hex.
    expires_at = models.DateTimeField(_("expires at"))  #: By the database's clock.

    class Meta:
        verbose_name = _("unique event")
        verbose_name_plural = _("unique events")
        indexes = [models.Index(fields=["expires_at"], name="async_signals_unique_expires")]

    def __str__(self) -> str:
        return self.key


class Throttle(models.Model):
    """How many retries a receiver has left: a token bucket, shared by all relays."""

    receiver = models.CharField(_("receiver"), max_length=255, primary_key=True)
    tokens = models.FloatField(_("tokens"))
    filled_at = models.DateTimeField(_("filled at"))  #: By the database's clock.

    class Meta:
        verbose_name = _("throttle")
        verbose_name_plural = _("throttles")

    def __str__(self) -> str:
        return self.receiver


class Turn(models.Model):
    """
    The place of a delivery with ``order_by`` among those with its key, until it is done.

    Numbers come from the database when the row is inserted: who holds a lock has a higher one than
    all who held it before. The first of a key may run, no other.
    """

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(_("key"), max_length=64)  #: A SHA-256, in hex.
    delivery = models.OneToOneField(
        Delivery, models.CASCADE, related_name="turn", verbose_name=_("delivery")
    )
    #: It waits for nothing but its turn: no countdown, and no pause before the next attempt.
    ready = models.BooleanField(_("ready"), default=True)
    #: The key while a worker runs it, so that the database lets no other one of the key run.
    running = models.CharField(_("running"), max_length=64, null=True, unique=True)  # noqa: DJ001

    class Meta:
        verbose_name = _("turn")
        verbose_name_plural = _("turns")
        indexes = [models.Index(fields=["key", "id"], name="async_signals_turn_key")]

    def __str__(self) -> str:
        return f"{self.id} of {self.key}"
