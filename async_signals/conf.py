"""The ``ASYNC_SIGNALS`` setting: typed, validated, read when it is first needed."""

from __future__ import annotations

import base64
import dataclasses
import difflib
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Settings", "get_settings"]


#: Options that say something about one receiver's arguments.
_PERSONAL = frozenset({"order_by", "track_changes", "unique_by", "unique_for", "upcasters"})

#: What is masked where the site does not say otherwise. Short ones are whole names: ``auth`` is
#: none of an author's, ``pin`` is in no opinion.
SENSITIVE = (
    "*password*", "*passwd*", "*passphrase*", "*passcode*", "*pwd*", "pass", "*_pass",
    "pin", "*_pin", "pin_code", "otp", "*_otp", "otp_*",
    "*secret*", "*token*", "*jwt*", "*credential*", "*authorization*", "auth", "*_auth",
    "*auth_key*", "*auth_code*", "*api_key*", "*apikey*", "*access_key*", "*accesskey*",
    "*private_key*", "*privatekey*", "*encryption_key*", "*signing_key*",
    "*signature*", "sig", "*_sig", "hmac", "*_hmac",
    "*cookie*", "*session_key*", "session_id", "sessionid", "*_sessionid", "jsessionid",
    "card", "*card_number*", "*cardnumber*", "*credit_card*", "*creditcard*", "*cvc*", "*cvv*",
    "*iban*", "ssn", "*_ssn", "ssn_*", "*social_security*",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each key of ``ASYNC_SIGNALS``; a key is written in capitals."""

    celery_app: str | None = None  #: Dotted path of the Celery app; None: Celery's current app.
    defaults: Options = Options()  #: Options of every receiver that does not say otherwise.
    publish_timeout: float = 3.5  #: Seconds that a publish may take in all before it has failed.
    max_message_size: int = 262_144  #: Bytes of a message, before Celery wraps it.
    signing: bool = True  #: False: whoever can write to the broker is believed.
    signing_key: str | bytes | None = None  #: None: Django's SECRET_KEY, with its fallbacks.
    signing_key_fallbacks: tuple[str | bytes, ...] = ()  #: Retired keys, which still verify.
    encryption_keys: tuple[str | bytes, ...] = ()  #: The first encrypts, all decrypt; none: plain.
    max_recursion: int = 5  #: Runs of one receiver in a chain of receivers that cause each other.
    relay: bool = True  #: Run the relay inside every Celery worker.
    relay_interval: float = 1.0  #: Seconds between two looks of a relay at an idle ledger.
    lease: float = 60  #: Seconds that a worker may be silent before its delivery is taken away.
    durable_outside_atomic: str = "warn"  #: Durable events in autocommit: warn, raise or allow.
    retry_rate: float = 10  #: Retries of one receiver per second, over all relays.
    max_deaths: int = 3  #: Workers that may die over a delivery before it is quarantined.
    sensitive: tuple[str, ...] = SENSITIVE  #: Names masked everywhere, as patterns of ``fnmatch``.
    keep_succeeded: float = 86_400  #: Seconds that successes and receipts are kept.
    keep_handled: float = 2_592_000  #: Seconds that discarded deliveries and operations are kept.
    alert_admins: bool = False  #: Mail the ADMINS about new kinds of failures.
    alert_email_backend: str | None = None  #: Path, or alias in MAILERS; None: the site's.
    alert_webhook: str | None = None  #: URL that is told about new kinds of failures, as JSON.
    spool: str | None = None  #: Folder of last resort; None: one in the system's temporary folder.

    @classmethod
    def from_django(cls) -> Settings:
        """
        Read Django's settings.

        Raises:
            ImproperlyConfigured: An unknown key, or a value of a wrong type.
        """
        given = getattr(django_settings, "ASYNC_SIGNALS", {})
        if not isinstance(given, dict):
            raise ImproperlyConfigured(
                f"cannot read ASYNC_SIGNALS: expected a dict, got: {type(given).__name__}."
            )
        known = {field.name.upper(): field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in known:
                close = difflib.get_close_matches(str(key).upper(), known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ImproperlyConfigured(
                    f"cannot read ASYNC_SIGNALS[{key!r}]: expected one of {sorted(known)}.{hint}"
                )
            values[known[key]] = value
        if "defaults" in values:
            try:
                for name in _PERSONAL & {*values["defaults"]}:
                    raise ImproperlyConfigured(
                        "cannot read ASYNC_SIGNALS['DEFAULTS']: expected options that fit every "
                        f"receiver, got: {name!r}. Give it to the receivers that it is for."
                    )
                values["defaults"] = Options().merge(values["defaults"])
            except (TypeError, ValueError) as exc:
                raise ImproperlyConfigured(f"cannot read ASYNC_SIGNALS['DEFAULTS']: {exc}") from exc
        for name, value in values.items():
            is_valid, expected = _EXPECTED.get(name, (lambda value: True, ""))
            if not is_valid(value):
                # The type only: some of these values are secrets.
                raise ImproperlyConfigured(
                    f"cannot read ASYNC_SIGNALS[{name.upper()!r}]: expected {expected}, got: "
                    f"{_kind_of(value)}."
                )
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)


def _is_key(value: object) -> bool:
    return isinstance(value, (str, bytes)) and len(value) > 0


def _is_encryption_key(value: object) -> bool:
    """Whether *value* is 32 bytes in URL-safe base64, which is what Fernet takes."""
    try:
        return isinstance(value, (str, bytes)) and len(base64.urlsafe_b64decode(value)) == 32
    except ValueError:
        return False


def _are(is_one: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(is_one, value))


def _is_number(value: object, *kinds: type) -> bool:
    return type(value) in kinds and value > 0  # type: ignore[operator]


def _kind_of(value: object) -> str:
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "a list with something else in it"
    return type(value).__name__


#: What each value has to be, and how to say it.
_EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "publish_timeout": (lambda value: _is_number(value, int, float), "seconds above 0"),
    "max_message_size": (lambda value: _is_number(value, int), "whole bytes above 0"),
    "signing": (lambda value: isinstance(value, bool), "True or False"),
    "signing_key": (
        lambda value: value is None or _is_key(value),
        "a text or bytes, not empty, or None",
    ),
    "signing_key_fallbacks": (_are(_is_key), "a list of texts or bytes, none empty"),
    "max_recursion": (lambda value: _is_number(value, int), "a whole number above 0"),
    "relay": (lambda value: isinstance(value, bool), "True or False"),
    "relay_interval": (lambda value: _is_number(value, int, float), "seconds above 0"),
    "lease": (lambda value: _is_number(value, int, float), "seconds above 0"),
    "durable_outside_atomic": (
        lambda value: value in ("warn", "raise", "allow"),
        "'warn', 'raise' or 'allow'",
    ),
    "retry_rate": (lambda value: _is_number(value, int, float), "a number per second, above 0"),
    "max_deaths": (lambda value: _is_number(value, int), "a whole number above 0"),
    "sensitive": (_are(lambda value: isinstance(value, str)), "a list of names or patterns"),
    "keep_succeeded": (lambda value: _is_number(value, int, float), "seconds above 0"),
    "keep_handled": (lambda value: _is_number(value, int, float), "seconds above 0"),
    "alert_admins": (lambda value: isinstance(value, bool), "True or False"),
    "alert_email_backend": (
        lambda value: value is None or isinstance(value, str),
        "the dotted path of an e-mail backend, an alias in MAILERS, or None",
    ),
    "alert_webhook": (
        lambda value: value is None or (isinstance(value, str) and value.startswith("http")),
        "a URL that begins with http:// or https://, or None",
    ),
    "spool": (
        lambda value: value is None or isinstance(value, str),
        "the path of a folder, or None",
    ),
    "encryption_keys": (
        _are(_is_encryption_key),
        "a list of keys, each made with cryptography.fernet.Fernet.generate_key()",
    ),
}


_cached: Settings | None = None


def get_settings() -> Settings:
    """Return the settings; see ``Settings.from_django()`` for what it raises."""
    global _cached  # noqa: PLW0603
    if _cached is None:
        _cached = Settings.from_django()
    return _cached


def _forget(*, setting: str, **kwargs: object) -> None:
    """Let ``override_settings`` work: the next reader reads again."""
    global _cached  # noqa: PLW0603
    if setting == "ASYNC_SIGNALS":
        _cached = None


setting_changed.connect(_forget, dispatch_uid="async_signals.conf")
