"""What people have done to deliveries and receivers: who, what, when, why."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["Operation", "OperationItem", "Pause"]


class Operation(models.Model):
    """One thing that somebody did, with its progress."""

    class Verb(models.TextChoices):
        """What was done."""

        RETRY = "retry", _("retry")
        DISCARD = "discard", _("discard")
        REPLAY = "replay", _("replay")
        PAUSE = "pause", _("pause")
        RESUME = "resume", _("resume")
        PRUNE = "prune", _("prune")

    id = models.UUIDField(_("id"), primary_key=True)
    verb = models.CharField(_("verb"), max_length=7, choices=Verb.choices)
    by = models.CharField(_("by"), max_length=255)  #: A user's name, or an account of the host.
    via = models.CharField(_("via"), max_length=20)  #: "admin", "command" or "api".
    reason = models.TextField(_("reason"), blank=True)
    target = models.TextField(_("target"))  #: What it was asked to act on, in words.
    total = models.PositiveIntegerField(_("total"), default=0)  #: Size of the frozen set.
    changed = models.PositiveIntegerField(_("changed"), default=0)
    unchanged = models.PositiveIntegerField(_("left as it was"), default=0)
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        indexes = [models.Index(fields=["started_at"], name="async_signals_op_started")]

    def __str__(self) -> str:
        return f"{self.verb} by {self.by}"


class OperationItem(models.Model):
    """What an operation came to for one delivery."""

    operation = models.ForeignKey(
        Operation, models.CASCADE, related_name="items", verbose_name=_("operation")
    )
    delivery = models.UUIDField(_("delivery"))  #: No foreign key: it outlives the delivery.
    changed = models.BooleanField(_("changed"))
    outcome = models.CharField(_("outcome"), max_length=255)  #: In words.

    class Meta:
        verbose_name = _("operation item")
        verbose_name_plural = _("operation items")
        indexes = [models.Index(fields=["delivery"], name="async_signals_op_delivery")]

    def __str__(self) -> str:
        return f"{self.delivery}: {self.outcome}"


class Pause(models.Model):
    """A receiver whose deliveries wait; no row: they do not."""

    receiver = models.CharField(_("receiver"), max_length=255, primary_key=True)
    since = models.DateTimeField(_("since"))
    by = models.CharField(_("by"), max_length=255)
    reason = models.TextField(_("reason"), blank=True)

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")

    def __str__(self) -> str:
        return self.receiver
