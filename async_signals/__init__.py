"""Turn any Django signal receiver into a Celery task by changing one decorator."""

from __future__ import annotations

from . import codec
from .atomic import AtomicSave
from .delivery import Delivery, current_delivery
from .exceptions import (
    AsyncSignalsError,
    DecodeError,
    DeliveryError,
    DuplicateReceiverError,
    EnvelopeError,
    FailedError,
    FutureEnvelopeError,
    MessageTooLargeError,
    MissingInstanceError,
    OperationError,
    OutboxError,
    PermanentFailure,
    PublishError,
    ReceiverNotFoundError,
    RecursionLimitError,
    RegistrationError,
    RetryAfter,
    SerializationError,
)
from .receivers import async_receiver, connect
from .retry import Retry
from .sending.muting import muted

__all__ = [
    # Connecting
    "async_receiver",
    "connect",
    "muted",
    "Retry",
    # Inside a receiver
    "Delivery",
    "current_delivery",
    "PermanentFailure",
    "RetryAfter",
    # Models and types of yours
    "AtomicSave",
    "codec",
    # Errors
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
    "PublishError",
    "ReceiverNotFoundError",
    "RecursionLimitError",
    "RegistrationError",
    "SerializationError",
]

__version__ = "0.1.0"
