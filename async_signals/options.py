"""What ``@async_receiver`` can be told, as one typed value."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
    Instance = Literal["reference", "snapshot", "both"]
    Missing = Literal["fail", "skip", "retry", "snapshot"]
    Key = Callable[..., object]
    Effect = Literal["at_least_once", "once"]
    AfterFailure = Literal["hold", "pass"]

from .retry import Retry

__all__ = ["Options", "OptionsDict"]

INSTANCE_MODES = ("reference", "snapshot", "both")
EFFECTS = ("at_least_once", "once")
AFTER_FAILURE = ("hold", "pass")
MISSING_POLICIES = ("fail", "skip", "retry", "snapshot")


class OptionsDict(TypedDict, total=False):
    """The keyword arguments of ``async_receiver`` beside those of Django's ``receiver``."""

    robust: bool
    durable: bool
    effect: Effect
    order_by: str | Key | None
    after_failure: AfterFailure
    retry: Retry
    on_commit: bool
    using: str | None
    when: Callable[..., object] | None
    instance: Instance
    missing: Missing | None
    exclude: Iterable[str]
    track_changes: bool | Iterable[str]
    upcasters: Sequence[Upcaster]
    coalesce: bool | Key
    unique_by: Iterable[str] | Key | None
    unique_for: float | None
    sensitive: Iterable[str]
    queue: str | None
    priority: int | None
    countdown: float | None
    expires: float | None
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | int | None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


#: What the value of an option has to be, in words and as a test.
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "robust": ("True or False", lambda value: isinstance(value, bool)),
    "durable": ("True or False", lambda value: isinstance(value, bool)),
    "retry": ("a Retry, as in Retry(max_attempts=3)", lambda value: isinstance(value, Retry)),
    "on_commit": ("True or False", lambda value: isinstance(value, bool)),
    "order_by": (
        "the path of an attribute of an argument, as 'instance.pk', or a function of "
        "(sender, **kwargs)",
        lambda value: callable(value) or _is_path(value),
    ),
    "coalesce": (
        "True, False or a function of (sender, **kwargs)",
        lambda value: isinstance(value, bool) or callable(value),
    ),
    "unique_for": ("seconds above 0", lambda value: _is_number(value) and value > 0),
    "using": ("the alias of a database", lambda value: isinstance(value, str)),
    "queue": ("the name of a queue", lambda value: isinstance(value, str)),
    "priority": ("a whole number", lambda value: type(value) is int),
    "countdown": ("seconds, 0 or more", _is_seconds),
    "expires": ("seconds, 0 or more", _is_seconds),
    "time_limit": ("seconds, 0 or more", _is_seconds),
    "soft_time_limit": ("seconds, 0 or more", _is_seconds),
    "rate_limit": (
        "a number of runs per second, or as in '10/m'",
        lambda value: (
            _is_seconds(value)
            or (isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?(/[smh])?", value) is not None)
        ),
    ),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How the deliveries of one receiver are made, sent and run.

    The same names are the keys of ``ASYNC_SIGNALS["DEFAULTS"]``; None means Celery's default.
    """

    robust: bool = False  #: Record failures and retry them; nothing is raised to the sender.
    durable: bool = False  #: Store deliveries in the sender's own transaction; implies robust.
    #: Once: the success of a durable delivery is committed in the receiver's own transaction.
    effect: Effect = "at_least_once"
    #: Path into the kwargs, or a function: durable deliveries of one value run one by one.
    order_by: str | Key | None = None
    #: What has failed for good holds back those behind it, or lets them pass.
    after_failure: AfterFailure = "hold"
    retry: Retry = Retry()  #: When a robust delivery is attempted again.
    on_commit: bool = True  #: Publish when the transaction commits; False: at ``send()``.
    using: str | None = None  #: Alias that decides about commit; None: taken from the event.
    when: Callable[..., object] | None = None  #: ``when(sender, **kwargs)`` at send; false: skip.
    instance: Instance = "reference"  #: How instances of models travel, all that an event has.
    missing: Missing | None = None  #: Row gone; None: "snapshot" for deletes, else "fail".
    exclude: frozenset[str] = frozenset()  #: Names of kwargs that are not sent.
    #: Send ``changes`` with ``post_save``: of all fields, or of those named.
    track_changes: bool | frozenset[str] = False
    #: The first translates kwargs of payload version 1 to version 2, the next those of 2 to 3.
    upcasters: tuple[Upcaster, ...] = ()
    #: Sends about one object in one transaction become one delivery; a function gives the key.
    coalesce: bool | Key = False
    #: Names of kwargs, or a function, whose value is sent once in ``unique_for`` seconds.
    unique_by: tuple[str, ...] | Key | None = None
    unique_for: float | None = None  #: Seconds; with ``unique_by`` only.
    #: Names of kwargs and fields that are masked in all that is recorded or logged.
    sensitive: frozenset[str] = frozenset()
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
        for name in ("exclude", "track_changes", "sensitive", "unique_by"):
            if isinstance(values.get(name), str):
                raise TypeError(
                    f"cannot use {name}={values[name]!r}: expected a list of names, got: str. "
                    f"Write {name}=[{values[name]!r}]."
                )
            if name in values and not isinstance(values[name], bool) and not callable(values[name]):
                values[name] = _names(name, values[name])
        if values.get("instance", "reference") not in INSTANCE_MODES:
            raise ValueError(
                f"cannot use instance={values['instance']!r}: expected one of {INSTANCE_MODES}."
            )
        if values.get("missing") not in (None, *MISSING_POLICIES):
            raise ValueError(
                f"cannot use missing={values['missing']!r}: expected one of {MISSING_POLICIES}."
            )
        if values.get("effect", "once") not in EFFECTS:
            raise ValueError(f"cannot use effect={values['effect']!r}: expected one of {EFFECTS}.")
        if values.get("after_failure", "hold") not in AFTER_FAILURE:
            raise ValueError(
                f"cannot use after_failure={values['after_failure']!r}: expected one of "
                f"{AFTER_FAILURE}."
            )
        if "upcasters" in values:
            values["upcasters"] = _checked_upcasters(values["upcasters"])
        when = values.get("when")
        if when is not None and (not callable(when) or inspect.iscoroutinefunction(when)):
            raise TypeError(
                f"cannot use when={when!r}: expected a plain function of (sender, **kwargs); "
                "it is called at send, in the sender's stack."
            )
        for name, (expected, is_valid) in _FORMS.items():
            value = values.get(name)
            if value is not None and not is_valid(value):
                raise TypeError(
                    f"cannot use {name}={value!r}: expected {expected}, "
                    f"got: {type(value).__name__}."
                )
        merged = dataclasses.replace(self, **values)
        if (merged.unique_by is None) != (merged.unique_for is None):
            raise TypeError(
                "cannot use one of unique_by and unique_for alone: expected both, "
                "@async_receiver(..., unique_by=['user'], unique_for=60)."
            )
        if merged.after_failure != "hold" and merged.order_by is None:
            raise TypeError(
                f"cannot use after_failure={merged.after_failure!r} alone: expected order_by with "
                "it, @async_receiver(..., durable=True, order_by='instance.pk')."
            )
        return _checked_durable(merged, given)

    @property
    def payload_version(self) -> int:
        """The version of the payloads that the receiver is sent: 1 until it has upcasters."""
        return len(self.upcasters) + 1

    def for_publish(self, *, at_once: bool = False) -> dict[str, Any]:
        """
        Return the arguments of Celery's ``apply_async()``, without the unset ones.

        Args:
            at_once: The ledger has seen to ``countdown`` already.
        """
        names: tuple[str, ...] = ("queue", "priority", "time_limit", "soft_time_limit")
        if not at_once:
            names += ("countdown",)
        if not self.robust:  # Celery drops what has expired, and nobody would see it.
            names += ("expires",)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _checked_durable(options: Options, given: Mapping[str, Any]) -> Options:
    """Return *options*, robust where they are durable; raises TypeError for what excludes that."""
    if not options.durable:
        if options.effect == "once":
            raise TypeError(
                "cannot use effect='once' alone: expected durable=True with it, "
                "@async_receiver(..., durable=True, effect='once')."
            )
        if options.order_by is not None:
            raise TypeError(
                "cannot use order_by alone: expected durable=True with it, whose deliveries have "
                "their places in the ledger before they leave. Write "
                "@async_receiver(..., durable=True, order_by=...)."
            )
        return options
    for name, is_used, cure in (
        ("robust=False", given.get("robust") is False, "A durable receiver is robust."),
        ("on_commit=False", not options.on_commit, "It is published after the commit."),
        ("coalesce", options.coalesce is not False, "Each of its deliveries is stored."),
        ("unique_by", options.unique_by is not None, "Each of its deliveries is stored."),
    ):
        if is_used:
            raise TypeError(
                f"cannot use {name} together with durable=True: expected one of them. {cure}"
            )
    return dataclasses.replace(options, robust=True)


def _names(option: str, names: Any) -> frozenset[str] | tuple[str, ...] | None:
    """Return names in the form that the option keeps: in their order where it matters."""
    if names is None:
        return None
    return tuple(names) if option == "unique_by" else frozenset(names)


def _checked_upcasters(upcasters: Any) -> tuple[Upcaster, ...]:
    if not isinstance(upcasters, (list, tuple)):
        raise TypeError(
            f"cannot use upcasters: expected a list of functions, got: {type(upcasters).__name__}. "
            "Write upcasters=[from_1_to_2, from_2_to_3]."
        )
    for index, upcaster in enumerate(upcasters):
        if not callable(upcaster) or inspect.iscoroutinefunction(upcaster):
            raise TypeError(
                f"cannot use upcasters[{index}]: expected a plain function of the older kwargs, a "
                f"dict, got: {type(upcaster).__name__}. Let it return the kwargs of version "
                f"{index + 2}."
            )
    return tuple(upcasters)
