"""The ``ASYNC_SIGNALS`` setting: typed, validated, read when it is first needed."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .options import Options

__all__ = ["Settings", "get_settings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each key of ``ASYNC_SIGNALS``; a key is written in capitals."""

    celery_app: str | None = None  #: Dotted path of the Celery app; None: Celery's current app.
    defaults: Options = Options()  #: Options of every receiver that does not say otherwise.
    publish_timeout: float = 3.5  #: Seconds that a publish may take in all before it has failed.

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
                values["defaults"] = Options().merge(values["defaults"])
            except (TypeError, ValueError) as exc:
                raise ImproperlyConfigured(f"cannot read ASYNC_SIGNALS['DEFAULTS']: {exc}") from exc
        timeout = values.get("publish_timeout", 1)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
            raise ImproperlyConfigured(
                f"cannot read ASYNC_SIGNALS['PUBLISH_TIMEOUT']: expected seconds above 0, "
                f"got: {timeout!r}."
            )
        return cls(**values)


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
