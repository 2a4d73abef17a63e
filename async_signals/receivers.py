"""
Connect a function to signals so that it runs in a Celery worker.

``signal.connect()`` gets a proxy under the very key that Django would give the function
itself, and that lives exactly as long as the function. So ``disconnect(function)``, weak
references and ``dispatch_uid`` mean what they mean for a plain receiver.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from django.apps import apps as installed
from django.db import Error
from django.db.models import Model
from django.db.models.base import ModelBase
from django.dispatch import Signal

from . import codec, registry
from .builtin_signals import rule_of
from .delivery import at_work, running
from .exceptions import OutboxError, RegistrationError
from .options import Options
from .sending.audience import Audience, join_audience
from .sending.changes import Save, track
from .sending.coalescing import subject_of
from .sending.dispatch import alias_of, dispatch
from .sending.event import Draft, current_event
from .sending.muting import is_muted
from .sending.order import order_key
from .sending.recursion import check_recursion
from .sending.refusals import dispatch_refusal
from .sending.uniqueness import unique_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import Unpack

    from django.apps.registry import Apps

    from .builtin_signals import Rule
    from .options import OptionsDict
    from .registry import Receiver
    from .sending.event import Event

__all__ = ["async_receiver", "connect"]

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
            without an argument that is never sent; or the signal cannot be asynchronous.
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
    tracked = Options().merge(options).track_changes
    signals = signal if isinstance(signal, (list, tuple)) else [cast("Signal", signal)]
    senders = sender if isinstance(sender, (list, tuple)) else [sender]
    registered = registry.register(receiver, name=name, aliases=aliases, options=options)
    for each_signal in signals:
        connect_to_signal = each_signal.connect  # Django's own error for what is no signal.
        rule = _checked_rule(each_signal, receiver, registered)
        for each_sender in senders:
            if tracked:
                track(each_signal, each_sender, receiver=registered.name, fields=tracked, apps=apps)
            uid = dispatch_uid or _key_of(receiver)
            if weak:
                key = id(each_signal), id(each_sender), uid
                connection = _weak_connection(
                    registered, receiver, rule, key, is_open=each_sender is None
                )
            else:
                is_open = each_sender is None
                connection = _Connection(registered, receiver, rule, is_open=is_open, strongly=True)
            connection.audience = join_audience(each_signal, each_sender)
            connect_to_signal(
                connection.proxy,
                sender=each_sender,
                weak=weak,
                dispatch_uid=uid,
                **({} if apps is None else {"apps": apps}),
            )
        models = {each for each in senders if each is None or isinstance(each, (str, ModelBase))}
        registered.signals.setdefault(each_signal, set()).update(models)


#: No sender, which None may be.
_NOBODY = object()


class _Connection:
    """What one ``signal.connect()`` was given: the sender's end of a receiver."""

    def __init__(
        self,
        receiver: Receiver,
        function: Callable[..., object],
        rule: Rule,
        *,
        is_open: bool,
        strongly: bool = False,
    ) -> None:
        self.receiver = receiver
        self.is_open = is_open  #: To every sender.
        self.audience = Audience()  #: All that are called together with it.
        self.rule = rule  #: The signal's.
        self.path: str | None = None  #: What the signal is called; known once it was sent.
        self._heard: object = _NOBODY  #: A model whose events it hears; always, once it does.
        #: The model that sent last, and its JSON: a model is always written the same.
        self._model: tuple[object, Any] = (None, None)
        # Django names receivers in its log, and looks at their signature. A copy of send() under
        # the name of the function: to call it from a function of that name would be one more call
        # for each event.
        send = type(self).send
        self._proxy = types.FunctionType(send.__code__, send.__globals__)
        self._proxy.__module__ = function.__module__
        self._proxy.__name__ = getattr(function, "__name__", receiver.name)
        self._proxy.__qualname__ = getattr(function, "__qualname__", receiver.name)
        self._function = function if strongly else None

    @property
    def proxy(self) -> types.MethodType:
        """What Django calls: bound, so that it refers to the connection, not to itself."""
        return types.MethodType(self._proxy, self)

    @functools.cached_property
    def left_out(self) -> frozenset[str]:
        """Arguments that are not sent."""
        return self.rule.left_out | self.receiver.options.exclude

    def send(self, signal: Signal, sender: object, **named: Any) -> None:
        """Turn an event into a delivery of this receiver, and dispatch it."""
        receiver = self.receiver
        if sender is not self._heard and not self._hears(sender):
            return
        event = current_event(signal, sender, named, self)
        try:
            self._send(event, signal, sender, named)
        except Exception as exc:
            if not receiver.options.robust:
                raise
            # It is recorded: the sender is to see nothing of it.
            if receiver.options.durable and isinstance(exc, (Error, OutboxError)):
                raise  # Its transaction must not commit without the delivery.
            using = alias_of(receiver, named)
            dispatch_refusal(receiver, signal, event, exc, using, named=named)

    def _hears(self, sender: object) -> bool:
        """Whether an event of *sender* may cause deliveries: one that they cause would not end."""
        rule = self.rule
        if rule.announces and codec.decoding.get():
            return False
        if rule.runs and (codec.decoding.get() or at_work.get() or running.get() is not None):
            return False
        if self.is_open and _is_ours(sender):
            return False  # Nor for the rows that deliveries leave in the ledger.
        if rule.models and isinstance(sender, type) and issubclass(sender, Model):
            # No worker can name the models of migrations, which are made for a moment.
            if sender is not Model and sender._meta.apps is not installed:
                return False
            if not (rule.announces or rule.runs):
                self._heard = sender
        return True

    def _send(self, event: Event, signal: Signal, sender: object, named: dict[str, Any]) -> None:
        receiver, options, rule = self.receiver, self.receiver.options, self.rule
        save = None
        if options.track_changes:
            save = Save(
                named["instance"],
                receiver=receiver.name,
                fields=options.track_changes,
                created=named.get("created", False),
                update_fields=named.get("update_fields"),
            )
            named["changes"] = save.changes
        if is_muted(receiver, signal) or receiver.function is None:
            return
        if options.when is not None and not options.when(sender, **named):
            return
        cause = running.get()
        if cause is not None:
            check_recursion(receiver.name, cause)
        encoded = self._encode(named)
        model, sent_by = self._model
        if sender is not model:
            sent_by = self._encode_sender(sender)
        path = self.path = self.path or receiver.signal_path(signal)
        alias = alias_of(receiver, named)
        stored = alias if options.durable else None
        draft = Draft(event, receiver, path, sent_by, encoded, cause, stored)
        if options.unique_by is not None:
            draft.unique = unique_key(receiver, sender, named, deletes=rule.deletes)
        if options.order_by is not None:
            draft.order = order_key(receiver, sender, named)
        subject = subject_of(receiver, signal, sender, named) if options.coalesce else None
        dispatch(draft, alias, subject)
        if save is not None:
            save.told()

    def _encode_sender(self, sender: object) -> Any:
        if "sender" in self.left_out:
            return None
        encoded = self._encode({"sender": sender})["sender"]
        if type(sender) is ModelBase:
            self._model = sender, encoded
        return encoded

    def _encode(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return those that are sent as JSON."""
        left_out = self.left_out
        if left_out:
            arguments = {name: each for name, each in arguments.items() if name not in left_out}
        receiver = self.receiver
        return codec.encode(
            arguments,
            receiver=receiver.name,
            instance=receiver.options.instance,
            gone=self.rule.deletes,
            fallback=receiver.options.missing == "snapshot",
        )


def _is_ours(sender: object) -> bool:
    """Whether *sender* is one of this package's own tables."""
    meta = getattr(sender, "_meta", None)
    return meta is not None and getattr(meta, "app_label", None) == "async_signals"


def _weak_connection(
    receiver: Receiver,
    function: Callable[..., object],
    rule: Rule,
    key: Hashable,
    *,
    is_open: bool,
) -> _Connection:
    """
    Return the connection of *function* under *key*: the same one when it is connected again.

    Django holds it weakly. What keeps it is ``receiver.connections``, until the function dies.
    """
    connections: dict[Hashable, _Connection] = receiver.connections
    if not connections:
        owner = function.__self__ if inspect.ismethod(function) else function
        weakref.finalize(owner, connections.clear).atexit = False
    return connections.setdefault(key, _Connection(receiver, function, rule, is_open=is_open))


def _key_of(function: Callable[..., object]) -> Hashable:
    """
    Return the key by which ``disconnect(function)`` looks for the connection.

    Django identifies a receiver without ``dispatch_uid`` by its address, and a bound method by
    those of its object and function.
    """
    if inspect.ismethod(function):
        return id(function.__self__), id(function.__func__)
    return id(function)


def _checked_rule(signal: Signal, function: Callable[..., object], receiver: Receiver) -> Rule:
    """Return the rule of *signal*, with the modules of its senders imported."""
    name, rule = rule_of(signal)
    if rule.refused:
        raise RegistrationError(
            f"cannot connect {receiver.name} to {name}: expected a signal that still means "
            f"something in another process, got: one that {rule.refused}. Use a plain @receiver."
        )
    for parameter in inspect.signature(function).parameters.values():
        if (
            parameter.name in rule.left_out
            and parameter.default is parameter.empty
            and parameter.kind is not parameter.VAR_KEYWORD
        ):
            raise RegistrationError(
                f"cannot connect {receiver.name} to {name}: expected a "
                f"receiver that can do without {parameter.name!r}, which never leaves the "
                f"process, got: a parameter without default. Write {parameter.name}=None, or "
                "take what you need of it in a plain @receiver."
            )
    for module in rule.senders:
        importlib.import_module(module)
    return rule
