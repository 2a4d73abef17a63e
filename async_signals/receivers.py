"""
Connect a function to signals so that it runs in a Celery worker.

``signal.connect()`` gets a proxy under the very key that Django would give the function
itself, and that lives exactly as long as the function. So ``disconnect(function)``, weak
references and ``dispatch_uid`` mean what they mean for a plain receiver.
"""

from __future__ import annotations

import contextlib
import inspect
import types
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from django.dispatch import Signal

from . import codec, registry
from .builtin_signals import announces_instances, carries_deleted_rows, left_out
from .dispatch import alias_of, dispatch
from .envelope import Envelope
from .event import current_event, new_id
from .exceptions import RegistrationError
from .options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from typing import Unpack

    from django.apps.registry import Apps

    from .options import OptionsDict
    from .registry import Receiver

__all__ = ["async_receiver", "connect", "muted"]

P = ParamSpec("P")
R = TypeVar("R")


def async_receiver(
    signal: Signal | Sequence[Signal],
    *,
    sender: object = None,
    weak: bool = True,
    dispatch_uid: Hashable | None = None,
    apps: Apps | None = None,
    name: str | None = None,
    aliases: Iterable[str] = (),
    **options: Unpack[OptionsDict],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Decorate a receiver that runs in a Celery worker; the function itself stays as it is.

    Args:
        signal: A signal, or a list or tuple of them.
        sender: As in Django's ``receiver``, or a list or tuple of senders.
        weak: As in Django's ``receiver``.
        dispatch_uid: As in Django's ``receiver``.
        apps: As in Django's ``ModelSignal.connect()``; for no other signal.
        name: Name of the receiver and its task; ``module.qualname`` by default.
        aliases: Earlier names, whose messages are still delivered.
        **options: How it is delivered; see ``Options``.

    Raises:
        RegistrationError: The receiver has no name, or one that is taken, or cannot do
            without an argument that is never sent.
        TypeError, ValueError: What Django raises for a wrong receiver, or an unknown option.
    """

    def decorator(function: Callable[P, R]) -> Callable[P, R]:
        connect(
            signal,
            function,
            sender=sender,
            weak=weak,
            dispatch_uid=dispatch_uid,
            apps=apps,
            name=name,
            aliases=aliases,
            **options,
        )
        return function

    return decorator


def connect(
    signal: Signal | Sequence[Signal],
    receiver: Callable[..., object],
    *,
    sender: object = None,
    weak: bool = True,
    dispatch_uid: Hashable | None = None,
    apps: Apps | None = None,
    name: str | None = None,
    aliases: Iterable[str] = (),
    **options: Unpack[OptionsDict],
) -> None:
    """Connect *receiver* as ``async_receiver`` does, without decorating it."""
    # Django's own validation of a receiver, with its own messages.
    Signal().connect(receiver, weak=False)
    Options().merge(options)
    signals = signal if isinstance(signal, (list, tuple)) else [cast("Signal", signal)]
    senders = sender if isinstance(sender, (list, tuple)) else [sender]
    registered = registry.register(receiver, name=name, aliases=aliases, options=options)
    for each_signal in signals:
        connect_to_signal = each_signal.connect  # Django's own error for what is no signal.
        _refuse_needed_but_left_out(each_signal, receiver, registered)
        for each_sender in senders:
            uid = dispatch_uid or _key_of(receiver)
            if weak:
                key = id(each_signal), id(each_sender), uid
                connection = _weak_connection(registered, receiver, key)
            else:
                connection = _Connection(registered, receiver, strongly=True)
            connect_to_signal(
                connection.proxy,
                sender=each_sender,
                weak=weak,
                dispatch_uid=uid,
                **({} if apps is None else {"apps": apps}),
            )
        registered.signals.add(each_signal)


class _Connection:
    """What one ``signal.connect()`` was given: the sender's end of a receiver."""

    def __init__(
        self, receiver: Receiver, function: Callable[..., object], *, strongly: bool = False
    ) -> None:
        self.receiver = receiver

        def proxy(self: _Connection, signal: Signal, sender: object, **named: Any) -> None:
            self.send(signal, sender, named)

        # Django names receivers in its log, and looks at their signature.
        proxy.__module__ = function.__module__
        proxy.__name__ = getattr(function, "__name__", receiver.name)
        proxy.__qualname__ = getattr(function, "__qualname__", receiver.name)
        self._proxy = proxy
        self._function = function if strongly else None

    @property
    def proxy(self) -> types.MethodType:
        """What Django calls: bound, so that it refers to the connection, not to itself."""
        return types.MethodType(self._proxy, self)

    def send(self, signal: Signal, sender: object, named: dict[str, Any]) -> None:
        """Turn an event into a delivery of this receiver, and dispatch it."""
        if codec.decoding.get() and announces_instances(signal):
            return  # A delivery for what a delivery carries would never end.
        receiver = self.receiver
        options = receiver.options
        event = current_event(signal, sender, named, self)
        if _is_muted(receiver, signal) or receiver.function is None:
            return
        if options.when is not None and not options.when(sender, **named):
            return
        dropped = left_out(signal) | options.exclude
        arguments = {"sender": sender, **named}
        encoded = codec.encode(
            {key: value for key, value in arguments.items() if key not in dropped},
            receiver=receiver.name,
            instance=options.instance,
            gone=carries_deleted_rows(signal),
            fallback=options.missing == "snapshot",
        )
        envelope = Envelope(
            id=new_id(),
            event_id=event.id,
            receiver=receiver.name,
            signal=receiver.signal_path(signal),
            sent_at=event.sent_at,
            sender=encoded.pop("sender", None),
            kwargs=encoded,
        )
        dispatch(receiver, envelope, alias_of(receiver, named))


def _weak_connection(
    receiver: Receiver, function: Callable[..., object], key: Hashable
) -> _Connection:
    """
    Return the connection of *function* under *key*: the same one when it is connected again.

    Django holds it weakly. What keeps it is ``receiver.connections``, until the function dies.
    """
    connections: dict[Hashable, _Connection] = receiver.connections
    if not connections:
        owner = function.__self__ if inspect.ismethod(function) else function
        weakref.finalize(owner, connections.clear).atexit = False
    return connections.setdefault(key, _Connection(receiver, function))


def _key_of(function: Callable[..., object]) -> Hashable:
    """
    Return the key by which ``disconnect(function)`` looks for the connection.

    Django identifies a receiver without ``dispatch_uid`` by its address, and a bound method by
    those of its object and function.
    """
    if inspect.ismethod(function):
        return id(function.__self__), id(function.__func__)
    return id(function)


def _refuse_needed_but_left_out(
    signal: Signal, function: Callable[..., object], receiver: Receiver
) -> None:
    for parameter in inspect.signature(function).parameters.values():
        if (
            parameter.name in left_out(signal)
            and parameter.default is parameter.empty
            and parameter.kind is not parameter.VAR_KEYWORD
        ):
            raise RegistrationError(
                f"cannot connect {receiver.name} to the signal: expected a "
                f"receiver that can do without {parameter.name!r}, which never leaves the "
                f"process, got: a parameter without default. Write {parameter.name}=None, or "
                "take what you need of it in a plain @receiver."
            )


# -- Muting

_mutes: ContextVar[tuple[frozenset[object], ...]] = ContextVar("async_signals_mutes", default=())


@contextlib.contextmanager
def muted(*what: Signal | Callable[..., object] | str) -> Iterator[None]:
    """
    Send nothing to asynchronous receivers inside the ``with`` block, in this context only.

    Args:
        *what: Signals, receivers or receivers' names; none of them means all.
    """
    names = frozenset(
        item if isinstance(item, (str, Signal)) else registry.name_for(item) for item in what
    )
    token = _mutes.set((*_mutes.get(), names))
    try:
        yield
    finally:
        _mutes.reset(token)


def _is_muted(receiver: Receiver, signal: Signal) -> bool:
    mutes = _mutes.get()
    return bool(mutes) and any(
        not names or receiver.name in names or signal in names for names in mutes
    )
