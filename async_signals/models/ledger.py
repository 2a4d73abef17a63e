"""Events, their deliveries, and every attempt at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

if TYPE_CHECKING:
    import uuid

__all__ = ["FINAL_STATES", "LIVE_STATES", "Attempt", "Delivery", "Event", "Outcome", "State"]


class State(models.TextChoices):
    """Where a delivery stands."""

    PENDING = "pending", _("pending")  #: Waits for the relay, or for its next attempt.
    PUBLISHED = "published", _("published")  #: In the broker.
    RUNNING = "running", _("running")  #: Claimed, with a lease.
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", pgettext_lazy("delivery", "failed")  #: Waits for a person.
    DISCARDED = "discarded", _("discarded")  #: Given up, with a reason.


LIVE_STATES = (State.PENDING, State.PUBLISHED, State.RUNNING)
FINAL_STATES = (State.SUCCEEDED, State.FAILED, State.DISCARDED)


class Outcome(models.TextChoices):
    """How an attempt ended."""

    SUCCEEDED = "succeeded", _("succeeded")
    RAISED = "raised", _("raised an error")
    DIED = "died", _("its worker died")
    REFUSED = "refused", _("could not be delivered")  #: The receiver was never called.


class Event(models.Model):
    """One call of ``send()``, as far as its deliveries had to be recorded."""

    id = models.UUIDField(_("id"), primary_key=True)  #: Version 7: sorts by time.
    #: Import path of the signal; empty: it has none.
    signal = models.CharField(_("signal"), max_length=255, blank=True)
    sender = models.CharField(_("sender"), max_length=255, blank=True)  #: A label, for people.
    #: Label and primary key of the instance that the event is about; empty: none.
    instance_model = models.CharField(_("model"), max_length=255, blank=True)
    instance_pk = models.CharField(_("primary key"), max_length=255, blank=True)
    sent_at = models.DateTimeField(_("sent at"))
    #: The delivery whose receiver sent it; None: no receiver did.
    cause = models.UUIDField(_("caused by delivery"), null=True, blank=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [
            models.Index(fields=["sent_at"], name="async_signals_event_sent"),
            models.Index(fields=["instance_pk"], name="async_signals_event_instance"),
        ]

    def __str__(self) -> str:
        return f"{self.signal or '?'} {self.id}"


class Delivery(models.Model):
    """One event on its way to one receiver: a row until the receiver is done with it."""

    id = models.UUIDField(_("id"), primary_key=True)  #: Version 7: sorts by time.
    event = models.ForeignKey(
        Event, models.CASCADE, related_name="deliveries", verbose_name=_("event")
    )
    receiver = models.CharField(_("receiver"), max_length=255)
    signal = models.CharField(_("signal"), max_length=255, blank=True)  #: The event's.
    sent_at = models.DateTimeField(_("sent at"))  #: The event's.
    state = models.CharField(_("state"), max_length=9, choices=State.choices)
    #: Deliveries that the row stands for: more than one, and it is a bundle, of a large
    #: transaction, in whose place a worker puts the deliveries themselves.
    size = models.PositiveIntegerField(_("size"), default=1)
    #: When somebody has to act if nothing happens: pending, publish; published, publish again;
    #: running, take it for dead. By the database's clock. None in a final state.
    due_at = models.DateTimeField(_("due at"), null=True, blank=True)
    #: Raised by each claim; a result is written only for the epoch that holds.
    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)  #: That raised.
    deaths = models.PositiveIntegerField(_("deaths"), default=0)  #: Attempts whose worker died.
    publishes = models.PositiveIntegerField(_("publishes"), default=0)  #: Since the last claim.
    worker = models.CharField(_("worker"), max_length=255, blank=True)  #: The last one.
    process = models.CharField(_("process"), max_length=64, blank=True)  #: The last worker's own.
    published_at = models.DateTimeField(_("published at"), null=True, blank=True)  #: Last time.
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)  #: The last claim.
    #: When a person last asked for another attempt: deadlines count from then.
    retried_at = models.DateTimeField(_("retried at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    #: What is needed to deliver: the envelope's JSON, encrypted where there are keys; of a bundle
    #: all of them, in lines of one or more.
    envelope = models.TextField(_("envelope"), blank=True)
    payload = models.TextField(_("payload"), blank=True)  #: For people: JSON, masked.
    exception = models.CharField(_("exception"), max_length=255, blank=True)  #: The last one's.
    message = models.TextField(_("message"), blank=True)  #: The last one's, masked.
    fingerprint = models.CharField(_("fingerprint"), max_length=32, blank=True)  #: The last one's.
    reason = models.TextField(_("reason"), blank=True)  #: Why it was discarded, or failed.
    #: The delivery that has to be done first, where a query asked for it; see ``Turn``.
    held_by: uuid.UUID | None = None
    holds: int = 0  #: How many have to wait for it, where a query asked for it.
    #: The delivery that this one repeats.
    replay_of = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="replays",
        verbose_name=_("replay of"),
    )

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=LIVE_STATES, due_at__isnull=False)
                | Q(state__in=FINAL_STATES, due_at__isnull=True),
                name="async_signals_live_is_due",
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], name="async_signals_due"),
            models.Index(fields=["sent_at"], name="async_signals_sent"),
            models.Index(fields=["state", "sent_at"], name="async_signals_state"),
            models.Index(fields=["receiver", "state", "sent_at"], name="async_signals_receiver"),
            models.Index(fields=["signal", "sent_at"], name="async_signals_signal"),
            models.Index(fields=["exception", "sent_at"], name="async_signals_exception"),
            models.Index(fields=["fingerprint", "state"], name="async_signals_group"),
        ]
        permissions = [
            ("retry_delivery", "Can retry deliveries"),
            ("discard_delivery", "Can discard deliveries"),
            ("replay_delivery", "Can replay deliveries"),
            ("pause_receiver", "Can pause and resume receivers"),
        ]

    def __str__(self) -> str:
        return f"{self.receiver} {self.id}"


class Attempt(models.Model):
    """One run of a receiver for a delivery."""

    delivery = models.ForeignKey(
        Delivery, models.CASCADE, related_name="attempt_set", verbose_name=_("delivery")
    )
    number = models.PositiveIntegerField(_("number"))  #: The delivery's epoch: 1 for the first.
    outcome = models.CharField(_("outcome"), max_length=9, choices=Outcome.choices)
    started_at = models.DateTimeField(_("started at"))
    duration = models.FloatField(_("duration"), null=True)  #: Seconds; None: its worker died.
    queued = models.FloatField(
        _("time in queue"), null=True
    )  #: Seconds from publish to start; from send, where it travelled whole.
    worker = models.CharField(_("worker"), max_length=255, blank=True)
    exception = models.CharField(_("exception"), max_length=255, blank=True)
    message = models.TextField(_("message"), blank=True)  #: Masked, bounded.
    own_frames = models.TextField(_("own frames"), blank=True)  #: The site's own code only.
    traceback = models.TextField(_("traceback"), blank=True)  #: Masked, bounded.
    fingerprint = models.CharField(_("fingerprint"), max_length=32, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["delivery", "number"], name="async_signals_attempt_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.outcome}"
