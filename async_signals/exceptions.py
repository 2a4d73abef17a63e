"""
Everything that this package raises, as one tree.

AsyncSignalsError
├── RegistrationError           a receiver cannot be registered or connected
│   └── DuplicateReceiverError  two live receivers under one name
├── SerializationError          at send: a value cannot travel
│   └── MessageTooLargeError    at send: all values together are too large to travel
├── RecursionLimitError         at send: a receiver causes itself, again and again
├── OutboxError                 at send: a durable delivery cannot be stored with its transaction
├── PublishError                the broker did not take a delivery
├── OperationError              what a person asked for cannot be done
├── PermanentFailure            raised by receivers: another attempt will not help
├── RetryAfter                  raised by receivers: when another attempt will
├── FailedError                 in the worker: an attempt at a robust delivery failed for good
└── DeliveryError               in the worker: a message cannot be turned into a call
    ├── EnvelopeError           malformed, forged, or for another receiver
    │   └── FutureEnvelopeError of a version that this release cannot read yet
    ├── ReceiverNotFoundError   no receiver of that name lives in this worker
    ├── DecodeError             a value cannot be rebuilt from its JSON
    └── MissingInstanceError    the row that a delivery refers to is gone

Settings are refused with Django's own ``ImproperlyConfigured``.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = [
    "AsyncSignalsError",
    "DecodeError",
    "DeliveryError",
    "DuplicateReceiverError",
    "EnvelopeError",
    "FailedError",
    "FutureEnvelopeError",
    "MessageTooLargeError",
    "MissingInstanceError",
    "OperationError",
    "OutboxError",
    "PermanentFailure",
    "PublishError",
    "ReceiverNotFoundError",
    "RecursionLimitError",
    "RegistrationError",
    "RetryAfter",
    "SerializationError",
]


class AsyncSignalsError(Exception):
    """Base of every error of this package; never raised itself."""


class RegistrationError(AsyncSignalsError):
    """Raised when a receiver cannot be registered or connected; the message has the cure."""


class DuplicateReceiverError(RegistrationError):
    """Raised when a second live receiver asks for a name, or for other options under it."""


class SerializationError(AsyncSignalsError):
    """
    Raised at ``send()``, in the sender's stack, when an argument cannot travel.

    The message and the attributes name the argument and its type, never its value.
    """

    def __init__(self, receiver: str, path: str, value_type: str, reason: str, cure: str) -> None:
        self._arguments = (receiver, path, value_type, reason, cure)
        self.receiver = receiver  #: Name of the receiver that the argument was for.
        #: The argument, with the way into it: ``"rows[3].owner"``. A key of a dict that is no
        #: plain word may be data, and is left out: ``"tokens[...]"``.
        self.path = path
        self.value_type = value_type  #: Import path of the type that was refused.
        super().__init__(f"cannot send {path!r} to {receiver}: {reason}, got: {value_type}. {cure}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class MessageTooLargeError(SerializationError):
    """
    Raised at ``send()``, in the sender's stack, for more than ``MAX_MESSAGE_SIZE`` bytes.

    No type is at fault here: ``value_type`` tells the sizes.
    """

    def __init__(
        self,
        receiver: str,
        path: str,
        path_size: int,
        size: int,
        limit: int,
        is_whole: bool = True,  # noqa: FBT001, FBT002  (exceptions are pickled by position)
    ) -> None:
        more = "" if is_whole else "at least "
        super().__init__(
            receiver,
            path,
            f"one of {more}{size}, {more}{path_size} of them in this argument",
            f"expected a message of at most {limit} bytes",
            f"Send less of it, a key instead of what it stands for, or leave it out with "
            f"@async_receiver(..., exclude=[{path!r}]); or raise "
            "ASYNC_SIGNALS['MAX_MESSAGE_SIZE'].",
        )
        self._arguments = (  # type: ignore[assignment]
            receiver,
            path,
            path_size,
            size,
            limit,
            is_whole,
        )
        self.is_whole = is_whole  #: Whether the sizes are exact: False, where it was given up.
        self.path_size = path_size  #: Bytes of the largest argument, the one at ``path``.
        self.size = size  #: Bytes of the message.
        self.limit = limit  #: Bytes that a message may have.


class RecursionLimitError(AsyncSignalsError):
    """Raised at ``send()`` when a receiver has caused itself ``MAX_RECURSION`` times."""

    def __init__(self, receiver: str, chain: tuple[str, ...], limit: int) -> None:
        self.receiver = receiver  #: Name of the receiver that would run once more.
        self.chain = chain  #: The receivers that led here, the first one first.
        self.limit = limit  #: How often a receiver may run in one chain.
        super().__init__(
            f"cannot send to {receiver}: expected at most {limit} runs of it in one chain, "
            f"got: {' -> '.join((*chain, receiver))}. Let the receiver tell its own saves from "
            "those of others, use QuerySet.update(), or wrap its save in muted()."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.receiver, self.chain, self.limit)


class OutboxError(AsyncSignalsError):
    """Raised at ``send()``, in the sender's stack, when a durable delivery cannot be stored."""


class PublishError(AsyncSignalsError):
    """Raised when a delivery could not be handed to Celery; the message has the cure."""


class OperationError(AsyncSignalsError):
    """Raised when what a person asked for cannot be done; the message has the cure."""


class PermanentFailure(AsyncSignalsError):  # noqa: N818  (not an error of this package)
    """Raise it in a robust receiver to fail for good: another attempt will not help."""


class RetryAfter(AsyncSignalsError):  # noqa: N818  (as above)
    """
    Raise it in a robust receiver to say when it is worth another attempt.

    It counts as an attempt; ``max_attempts`` and ``deadline`` of the policy hold.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        self.seconds = float(seconds)  #: How long to wait, at least.
        if not 0 <= self.seconds < math.inf:
            raise ValueError(
                f"cannot retry after {seconds!r} s: expected a number, 0 or more. Raise "
                "PermanentFailure where no other attempt will help."
            )
        self.reason = reason
        super().__init__(f"{reason or 'not now'}; retry after {self.seconds:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds, self.reason)


class FailedError(AsyncSignalsError):
    """
    Raised to Celery when a robust delivery has failed for good, masked.

    The error of the receiver itself stands in the ledger; ``delivery_failed`` carries it.
    """


class DeliveryError(AsyncSignalsError):
    """Base of what can go wrong in the worker before the receiver is called."""


class EnvelopeError(DeliveryError):
    """Raised when a message is malformed, forged, or of a version unknown to this release."""


class FutureEnvelopeError(EnvelopeError):
    """Raised when a message was written by a newer release, or for a newer receiver."""


class ReceiverNotFoundError(DeliveryError):
    """Raised when no receiver of the delivery's name lives in this worker."""


class DecodeError(DeliveryError):
    """Raised when a value cannot be rebuilt from its JSON form."""


class MissingInstanceError(DeliveryError):
    """Raised when the row that a delivery refers to does not exist (any more)."""

    def __init__(self, model: str, pk: object, alias: str | None) -> None:
        self.model = model  #: Label of the model, ``"app_label.model_name"``.
        self.pk = pk  #: Primary key that was looked for.
        self.alias = alias  #: Database alias that was asked; None for the router's choice.
        super().__init__(
            f"cannot fetch {model} with pk {pk!r} from database {alias or 'default'!r}: the row "
            "does not exist. Say what to do with @async_receiver(..., missing=...): "
            "'skip', 'retry' or 'snapshot'."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # From the worker's child to its parent an error travels pickled.
        return type(self), (self.model, self.pk, self.alias)
