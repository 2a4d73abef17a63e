"""Turn any Django signal receiver into a Celery task by changing one decorator."""

from __future__ import annotations

from . import codec
from .delivery import Delivery, current_delivery
from .exceptions import (
    AsyncSignalsError,
    DecodeError,
    DeliveryError,
    DuplicateReceiverError,
    EnvelopeError,
    MessageTooLargeError,
    MissingInstanceError,
    PublishError,
    ReceiverNotFoundError,
    RegistrationError,
    SerializationError,
)
from .muting import muted
from .receivers import async_receiver, connect

__all__ = [
    # Connecting
    "async_receiver",
    "connect",
    "muted",
    # Inside a receiver
    "Delivery",
    "current_delivery",
    # Types of yours
    "codec",
    # Errors
    "AsyncSignalsError",
    "DecodeError",
    "DeliveryError",
    "DuplicateReceiverError",
    "EnvelopeError",
    "MessageTooLargeError",
    "MissingInstanceError",
    "PublishError",
    "ReceiverNotFoundError",
    "RegistrationError",
    "SerializationError",
]

__version__ = "0.1.0"
