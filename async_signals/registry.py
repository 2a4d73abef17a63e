"""
The receivers that this process knows, by name.

Sender and worker each fill their own registry by importing the same modules; only the
name travels between them. A registered receiver is kept as weakly as Django keeps it, so
that a closure that dies is gone here too.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any

from .conf import get_settings
from .exceptions import (
    DecodeError,
    DuplicateReceiverError,
    ReceiverNotFoundError,
    RegistrationError,
    SerializationError,
)
from .signal_paths import paths_of, signal_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    from django.dispatch import Signal

    from .options import Options

__all__ = [
    "Receiver",
    "get",
    "known",
    "name_for",
    "name_of",
    "names",
    "names_of",
    "register",
    "renamed",
    "subscribe",
]


#: Characters of a name: what the ledger's columns take.
LONGEST_NAME = 255


class Receiver:
    """One function under one name with one set of options, connected to any number of signals."""

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str,
        aliases: Iterable[str] = (),
        options: Mapping[str, Any],
    ) -> None:
        self.name = name  #: Name of the receiver and of its Celery task.
        self.aliases = tuple(aliases)  #: Earlier names, whose messages are still delivered.
        self.names = (self.name, *self.aliases)  #: All of them.
        self.given = dict(options)  #: The options as they were written down.
        self.place = _place_of(function)  #: ``"file:line"``, for messages.
        self.module = getattr(function, "__module__", None)
        self.doc = function.__doc__
        #: What it is connected to, with those senders that are models or names of them; None: all.
        self.signals: weakref.WeakKeyDictionary[Signal, set[Any]] = weakref.WeakKeyDictionary()
        #: What keeps each connection of the function alive, as long as itself lives.
        self.connections: dict[Hashable, Any] = {}
        self._function = weak_reference(function)

    def __repr__(self) -> str:
        return f"<Receiver {self.name}>"

    @property
    def function(self) -> Callable[..., object] | None:
        """The user's function; None once it has died."""
        return self._function()

    @functools.cached_property
    def options(self) -> Options:
        """The given options laid over the settings' defaults."""
        return get_settings().defaults.merge(self.given)

    def signal_path(self, signal: Signal) -> str | None:
        """
        Return how to name *signal* in a message; None: the only signal without a name.

        Raises:
            SerializationError: The worker could not tell it from another one.
        """
        paths = paths_of(signal)
        if paths:
            # The worker has loaded the receiver's own module, whatever else it has not.
            own = [path for path in paths if path.rpartition(".")[0] == self.module]
            return (own or paths)[0]
        if len(self._nameless()) > 1:
            raise SerializationError(
                receiver=self.name,
                path="signal",
                value_type="django.dispatch.dispatcher.Signal",
                reason="expected a signal that has a name, or the only one without",
                cure="Assign it to a name at the top level of a module.",
            )
        return None

    def signal_at(self, path: str | None) -> Signal:
        """
        Return the signal that ``signal_path()`` of the sending process named *path*.

        Raises:
            DecodeError: This process has no such signal.
        """
        found = signal_at(path) if path is not None else None
        if found is not None:
            return found
        candidates = self._nameless() if path is None else list(self.signals)
        if len(candidates) == 1:  # There is no other that it could be.
            return candidates[0]
        raise DecodeError(
            f"cannot find signal {path!r} for {self.name}: expected a signal in a module that this "
            "worker has imported, got: none. Import it in AppConfig.ready(), and deploy workers "
            "before senders."
        )

    def _nameless(self) -> list[Signal]:
        return [signal for signal in self.signals if not paths_of(signal)]


def weak_reference(function: Callable[..., object]) -> Callable[[], Callable[..., object] | None]:
    """Return a weak reference that also works for bound methods."""
    if inspect.ismethod(function):
        return weakref.WeakMethod(function)
    return weakref.ref(function)


def name_of(function: Callable[..., object]) -> str:
    """
    Return the name that *function* is registered under when it is given none.

    Raises:
        RegistrationError: It has no name of its own, as a lambda or a ``partial``.
    """
    qualname = getattr(function, "__qualname__", None)
    if qualname is None or "<lambda>" in qualname:
        raise RegistrationError(
            f"cannot name the receiver at {_place_of(function)}: expected a function with a name "
            f"of its own, got: {type(function).__name__ if qualname is None else 'a lambda'}. "
            "Give it one that sender and worker share, "
            "@async_receiver(..., name='app.what_it_does')."
        )
    return f"{function.__module__}.{qualname}"


_lock = threading.RLock()
_receivers: dict[str, Receiver] = {}
_subscribers: list[Callable[[Receiver], None]] = []


def register(
    function: Callable[..., object],
    *,
    name: str | None = None,
    aliases: Iterable[str] = (),
    options: Mapping[str, Any],
) -> Receiver:
    """
    Return the receiver of *function*, made and announced when it is new.

    Raises:
        DuplicateReceiverError: Another live receiver has the name or an alias, or this one was
            registered with other options.
        RegistrationError: The function has no name of its own.
    """
    if isinstance(aliases, str):
        raise TypeError(
            f"cannot use aliases={aliases!r}: expected a list of names, got: str. "
            f"Write aliases=[{aliases!r}]."
        )
    receiver = Receiver(function, name=name or name_of(function), aliases=aliases, options=options)
    for key in receiver.names:
        if len(key) > LONGEST_NAME:
            raise RegistrationError(
                f"cannot register {key[:40]!r}... at {receiver.place}: expected a name of at most "
                f"{LONGEST_NAME} characters, got: {len(key)}. Give it a shorter one with name=..."
            )
    with _lock:
        for key in receiver.names:
            other = _receivers.get(key)
            if other is None or other.function is None:
                continue
            if other.function != function or other.name != receiver.name:
                raise DuplicateReceiverError(
                    f"cannot register {key!r} at {receiver.place}: expected a name that is free, "
                    f"got: the name of the live receiver at {other.place}. "
                    "Give one of them another with @async_receiver(..., name=...)."
                )
            if (other.given, other.aliases) != (receiver.given, receiver.aliases):
                raise DuplicateReceiverError(
                    f"cannot register {key!r} at {receiver.place} again: expected the options "
                    f"that it has, {_shown(other)}, got: {_shown(receiver)}. "
                    "Give the second registration a name of its own with name=..."
                )
            return other
        for key in receiver.names:
            _receivers[key] = receiver
        for subscriber in _subscribers:
            subscriber(receiver)
    return receiver


def get(name: str) -> Receiver:
    """
    Return the live receiver called *name*, or once called so.

    Raises:
        ReceiverNotFoundError: This process knows none.
    """
    receiver = _receivers.get(name)
    if receiver is None or receiver.function is None:
        raise ReceiverNotFoundError(
            f"cannot find receiver {name!r}: expected a receiver that this process has imported, "
            f"got: {'none' if receiver is None else 'one whose function has died'}. "
            "Import its module in AppConfig.ready(), deploy workers before senders, and name what "
            "was renamed with @async_receiver(..., aliases=[old name])."
        )
    return receiver


def name_for(function: Callable[..., object]) -> str:
    """Return the name under which *function* is registered, or else would be."""
    for receiver in _receivers.values():
        if receiver.function == function:
            return receiver.name
    return name_of(function)


def names() -> list[str]:
    """Return the names of all live receivers, without their aliases."""
    return [
        name
        for name, receiver in list(_receivers.items())
        if name == receiver.name and receiver.function is not None
    ]


def names_of(name: str) -> tuple[str, ...]:
    """Return all names of the receiver of that name, now or once; of an unknown one, that one."""
    try:
        return get(name).names
    except ReceiverNotFoundError:
        return (name,)


def renamed() -> list[tuple[str, ...]]:
    """Return all names of each live receiver that has more than one."""
    return [
        receiver.names
        for name, receiver in list(_receivers.items())
        if name == receiver.name and receiver.aliases and receiver.function is not None
    ]


def known(*, without: Collection[str] = ()) -> list[str]:
    """Return the names and aliases of all live receivers but those with a name in *without*."""
    return [
        name
        for name, receiver in list(_receivers.items())
        if receiver.function is not None and not any(each in without for each in receiver.names)
    ]


def subscribe(subscriber: Callable[[Receiver], None]) -> None:
    """Call *subscriber* with every receiver that is registered, now or later."""
    with _lock:
        _subscribers.append(subscriber)
        for name, receiver in _receivers.items():
            if name == receiver.name:
                subscriber(receiver)


def _place_of(function: Callable[..., object]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _shown(receiver: Receiver) -> str:
    given = receiver.given | ({"aliases": list(receiver.aliases)} if receiver.aliases else {})
    return ", ".join(f"{key}={value!r}" for key, value in sorted(given.items())) or "none"
