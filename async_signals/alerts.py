"""
Tell people about failures: once when a new kind begins, and once when it is over.

Listens to this package's own signals. What is sent was masked before; nothing here breaks what
it tells of.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings as django_settings
from django.core.mail import mail_admins
from django.utils.module_loading import import_string

from . import signals
from .conf import get_settings
from .errands import Errand
from .ledger import groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from .delivery import Delivery
    from .ledger.failures import Failure

__all__ = ["Alert", "connect"]

logger = logging.getLogger("async_signals")

#: Seconds in which a way to tell people has to take an alert: a relay, a worker or a sender waits.
_PATIENCE = 10.0
#: Seconds that connecting to the webhook, and each part of its answer, may take.
_TIMEOUT = 5
#: Seconds that what nobody could be told rests, so that not every failure waits for a dead server.
_REST = 60.0

#: What nobody could be told, and since when it rests, by database and fingerprint. Of this process:
#: others find the group as if it had never been told of.
_untold: dict[tuple[str, str], tuple[float, Alert]] = {}

#: What was waited for in vain, by what it is called in the settings.
_silent: dict[str, Errand] = {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What people are told about one kind of failure; the body of the webhook."""

    state: Literal["failing", "recovered"]
    delivery: str  #: Id of the delivery that was the first, or the last one.
    receiver: str
    exception: str  #: Import path; empty: its worker died.
    message: str  #: Masked.
    fingerprint: str

    @property
    def title(self) -> str:
        """One line for people."""
        if self.state == "recovered":
            return f"{self.receiver} has recovered from {self.exception or 'deaths of its worker'}"
        return f"{self.receiver} is failing: {self.exception or 'its worker died'}"

    @property
    def text(self) -> str:
        """A few lines for people."""
        if self.state == "recovered":
            how = "No delivery that failed so is failed or waits for another attempt any more."
        else:
            how = "Equal failures are not told of again until all of their deliveries are through."
        return (
            f"{self.title}\n{self.message}\n\n{how}\n\n"
            f"Delivery: {self.delivery}\nFingerprint: {self.fingerprint}\n"
        )


def connect() -> None:
    """Listen to what happens to deliveries; called when the app is ready, twice does no harm."""
    signals.delivery_failed.connect(_on_failed, dispatch_uid="async_signals.alerts")
    for signal in (
        signals.delivery_retrying,
        signals.delivery_succeeded,
        signals.delivery_discarded,
    ):
        signal.connect(_on_ended, dispatch_uid="async_signals.alerts")


def _on_failed(
    *,
    delivery: Delivery,
    using: str,
    failure: Failure | None = None,
    fingerprint: str = "",
    **kwargs: object,
) -> None:
    if not _channels():
        return
    _tell_what_rested()
    if failure is not None:
        alert = Alert(
            state="failing",
            delivery=str(delivery.id),
            receiver=delivery.receiver,
            exception=failure.exception,
            message=failure.message,
            fingerprint=failure.fingerprint,
        )
        _tell(alert, using)
    if fingerprint:
        _tell_recoveries(delivery, using, fingerprint)


def _on_ended(*, delivery: Delivery, using: str, fingerprint: str = "", **kwargs: object) -> None:
    if not (fingerprint or _untold) or not _channels():
        return
    _tell_what_rested()
    # Also where it is tried again: what it failed of before may be over.
    if fingerprint:
        _tell_recoveries(delivery, using, fingerprint)


def _tell_recoveries(delivery: Delivery, using: str, fingerprint: str) -> None:
    """Tell of each kind of failure that the delivery ever had, and that is over now."""
    try:
        for group in groups.alerted(delivery.id, fingerprint, using):
            alert = Alert(
                state="recovered",
                delivery=str(delivery.id),
                receiver=delivery.receiver,
                exception=group.exception,
                message=group.message,
                fingerprint=group.fingerprint,
            )
            _tell(alert, using)
    except Exception:
        logger.exception("cannot tell of the recovery of %s.", delivery.receiver)


def _tell(alert: Alert, using: str) -> None:
    """Tell people, where it is for this process to do it; what nobody takes rests for a while."""
    key = using, alert.fingerprint
    since, resting = _untold.get(key, (-math.inf, alert))
    if time.monotonic() - since < _REST:
        if resting.state != alert.state:
            _untold[key] = since, alert
        return
    _untold.pop(key, None)
    try:
        if alert.state == "failing":
            take, give_back = groups.take_alert, groups.give_back_alert
        else:
            take, give_back = groups.take_recovery, groups.give_back_recovery
        if take(alert.fingerprint, using) and not _send(alert):
            _untold[key] = time.monotonic(), alert
            give_back(alert.fingerprint, using)
    except Exception:
        logger.exception("cannot alert that %s.", alert.title)


def _tell_what_rested() -> None:
    """Tell what nobody could be told before, where it is so still."""
    for (using, fingerprint), (since, alert) in list(_untold.items()):
        if time.monotonic() - since < _REST:
            continue
        try:
            is_over = not groups.in_trouble(fingerprint, using)
        except Exception:
            logger.exception("cannot alert that %s.", alert.title)
            _untold[using, fingerprint] = time.monotonic(), alert
            continue
        if is_over is (alert.state == "recovered"):
            _tell(alert, using)
        else:
            _untold.pop((using, fingerprint), None)


def _channels() -> dict[str, Callable[[Alert], None]]:
    """Return how to tell people, by what it is called in the settings."""
    settings = get_settings()
    channels: dict[str, Callable[[Alert], None]] = {}
    if settings.alert_admins:
        channels["ALERT_ADMINS"] = _mail
    if url := settings.alert_webhook:
        channels["ALERT_WEBHOOK"] = lambda alert: _post(alert, url)
    return channels


def _send(alert: Alert) -> bool:
    """Return whether somebody was told; what fails is logged."""
    told = False
    for name, tell in _channels().items():
        try:
            _tell_in_time(name, tell, alert)
            told = True
        except Exception as exc:  # noqa: BLE001  (a mail backend may raise anything)
            logger.error(  # noqa: TRY400  (a traceback could show the URL, which is a secret)
                "cannot alert that %s: expected %s to take it, got: %s. Correct the setting, or "
                "what it leads to; what nobody was told is tried again.",
                alert.title,
                name,
                _reason(exc),
            )
    return told


def _tell_in_time(name: str, tell: Callable[[Alert], None], alert: Alert) -> None:
    """Let *tell* have its time, and while it does not return, no other alert."""
    before = _silent.pop(name, None)
    if before is None or not before.is_alive():
        before = Errand(tell, alert)
        if before.ends_within(_PATIENCE):
            return
    _silent[name] = before
    raise _SilenceError


def _reason(exc: Exception) -> str:
    """Return what went wrong without what an error may quote: addresses, URLs, passwords."""
    if isinstance(exc, urllib.error.HTTPError):
        return f"HTTP status {exc.code}"
    if isinstance(exc, _NobodyError):
        return "no ADMINS"
    if isinstance(exc, _SilenceError):
        return f"no answer in {_PATIENCE:g} s"
    reason = getattr(exc, "reason", None)
    return type(reason if isinstance(reason, Exception) else exc).__name__


class _NobodyError(Exception):
    """There is nobody to mail to, which Django takes for a success."""


class _SilenceError(Exception):
    """What was to take the alert has neither returned nor raised up to now."""


def _mail(alert: Alert) -> None:
    if not django_settings.ADMINS:
        raise _NobodyError
    backend = get_settings().alert_email_backend
    way: dict[str, Any] = {}
    if backend is not None:
        # A word without dots is an alias in MAILERS, which Django has since 6.1.
        way = {"connection": import_string(backend)()} if "." in backend else {"using": backend}
    # A message has lines, a subject must not.
    mail_admins(" ".join(alert.title.split())[:200], alert.text, **way)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST arrives as a GET without its body, or elsewhere than the site has said."""

    def redirect_request(self, *args: Any) -> None:
        """Let the answer be an error."""


def _post(alert: Alert, url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("expected a URL that begins with http:// or https://")
    body = {"version": 1, **dataclasses.asdict(alert), "text": alert.text}
    request = urllib.request.Request(  # noqa: S310  (the scheme is checked)
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "django-async-signals"},
        method="POST",
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT):
        pass  # That it was taken is all there is to know.
