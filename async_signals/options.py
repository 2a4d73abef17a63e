"""What ``@async_receiver`` can be told, as one typed value."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Instance = Literal["reference", "snapshot", "both"]
    Missing = Literal["fail", "skip", "retry", "snapshot"]

__all__ = ["Options", "OptionsDict"]

INSTANCE_MODES = ("reference", "snapshot", "both")
MISSING_POLICIES = ("fail", "skip", "retry", "snapshot")


class OptionsDict(TypedDict, total=False):
    """The keyword arguments of ``async_receiver`` beside those of Django's ``receiver``."""

    on_commit: bool
    using: str | None
    when: Callable[..., object] | None
    instance: Instance
    missing: Missing | None
    exclude: Iterable[str]
    queue: str | None
    priority: int | None
    countdown: float | None
    expires: float | None
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How the deliveries of one receiver are made, sent and run.

    The same names are the keys of ``ASYNC_SIGNALS["DEFAULTS"]``; None means Celery's default.
    """

    on_commit: bool = True  #: Publish when the transaction commits; False: at ``send()``.
    using: str | None = None  #: Alias that decides about commit; None: taken from the event.
    when: Callable[..., object] | None = None  #: ``when(sender, **kwargs)`` at send; false: skip.
    instance: Instance = "reference"  #: How instances of models travel, all that an event has.
    missing: Missing | None = None  #: Row gone; None: "snapshot" for deletes, else "fail".
    exclude: frozenset[str] = frozenset()  #: Names of kwargs that are not sent.
    queue: str | None = None  #: Name of the queue; None: Celery's routing.
    priority: int | None = None  #: As in Celery.
    countdown: float | None = None  #: Seconds before the receiver may start.
    expires: float | None = None  #: Seconds after which the delivery is not run any more.
    time_limit: float | None = None  #: Seconds until the worker kills the receiver.
    soft_time_limit: float | None = None  #: Seconds until Celery raises an error in it.
    rate_limit: str | int | None = None  #: As in Celery, ``"10/m"``.

    def merge(self, given: Mapping[str, Any]) -> Options:
        """
        Return these options with *given* laid over them.

        Raises:
            TypeError: *given* has an unknown name, or a value of a wrong type.
            ValueError: *given* has a value that is not one of those allowed.
        """
        known = {field.name for field in dataclasses.fields(self)}
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise TypeError(
                    f"cannot use option {name!r}: expected one of {sorted(known)}.{hint}"
                )
        values = dict(given)
        if isinstance(values.get("exclude"), str):
            raise TypeError(
                f"cannot use exclude={values['exclude']!r}: expected a list of names, got: str. "
                f"Write exclude=[{values['exclude']!r}]."
            )
        if "exclude" in values:
            values["exclude"] = frozenset(values["exclude"])
        if values.get("instance", "reference") not in INSTANCE_MODES:
            raise ValueError(
                f"cannot use instance={values['instance']!r}: expected one of {INSTANCE_MODES}."
            )
        if values.get("missing") not in (None, *MISSING_POLICIES):
            raise ValueError(
                f"cannot use missing={values['missing']!r}: expected one of {MISSING_POLICIES}."
            )
        when = values.get("when")
        if when is not None and (not callable(when) or inspect.iscoroutinefunction(when)):
            raise TypeError(
                f"cannot use when={when!r}: expected a plain function of (sender, **kwargs); "
                "it is called at send, in the sender's stack."
            )
        return dataclasses.replace(self, **values)

    def for_publish(self) -> dict[str, Any]:
        """Return the arguments of Celery's ``apply_async()``, without the unset ones."""
        names = ("queue", "priority", "countdown", "expires", "time_limit", "soft_time_limit")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
