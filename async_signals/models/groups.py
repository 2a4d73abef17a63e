"""Failures that are one and the same."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["FailureGroup"]


class FailureGroup(models.Model):
    """
    All failures of one fingerprint: the same error, at the same place of the site's code.

    How many deliveries it has now is counted where they are, by their fingerprint.
    """

    fingerprint = models.CharField(_("fingerprint"), max_length=32, primary_key=True)
    receiver = models.CharField(_("receiver"), max_length=255)
    exception = models.CharField(_("exception"), max_length=255)
    message = models.TextField(_("message"), blank=True)  #: Of the first one, masked.
    first_at = models.DateTimeField(_("first seen at"))
    last_at = models.DateTimeField(_("last seen at"))
    alerted_at = models.DateTimeField(_("alerted at"), null=True, blank=True)  #: None: not now.

    class Meta:
        verbose_name = _("failure group")
        verbose_name_plural = _("failure groups")
        indexes = [models.Index(fields=["last_at"], name="async_signals_group_last")]

    def __str__(self) -> str:
        return f"{self.exception} in {self.receiver}"
