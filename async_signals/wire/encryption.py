"""
The encryption of a message, where ``ENCRYPTION_KEYS`` is set: Fernet, with keys that rotate.

It keeps what signals carry from whoever can read the broker. The names of receivers are
Celery's task names, and stay readable.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from ..conf import get_settings
from ..exceptions import EnvelopeError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

__all__ = ["decrypted", "encrypted"]

#: Stands before what is encrypted; anything else is JSON, which never begins like this.
_PREFIX = "fernet:"


def encrypted(body: str) -> str:
    """Return *body*, encrypted with the first of ``ENCRYPTION_KEYS`` where there is one."""
    keys = get_settings().encryption_keys
    return _PREFIX + _box(keys).encrypt(body.encode()).decode() if keys else body


def decrypted(body: str) -> str:
    """
    Return *body*, decrypted where it was encrypted.

    Raises:
        EnvelopeError: It was encrypted with none of ``ENCRYPTION_KEYS``.
    """
    if not body.startswith(_PREFIX):
        return body
    keys = get_settings().encryption_keys
    if not keys:
        raise EnvelopeError(
            "cannot decrypt the message: expected ASYNC_SIGNALS['ENCRYPTION_KEYS'], got: none. "
            "Give workers the keys before senders."
        )
    box = _box(keys)
    from cryptography.fernet import InvalidToken  # noqa: PLC0415  (an extra: the box has it)

    try:
        return box.decrypt(body.removeprefix(_PREFIX)).decode()
    except (InvalidToken, ValueError):  # The latter for what is not even ASCII.
        raise EnvelopeError(
            "cannot decrypt the message: expected one encrypted with one of "
            "ASYNC_SIGNALS['ENCRYPTION_KEYS'], got: another key. Give workers a new key before "
            "senders, and keep a retired one in the list, not first, until its messages are "
            "consumed."
        ) from None


@functools.lru_cache(maxsize=4)
def _box(keys: tuple[str | bytes, ...]) -> MultiFernet:
    try:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415  (an extra)
    except ImportError:
        raise ImproperlyConfigured(
            "cannot use ASYNC_SIGNALS['ENCRYPTION_KEYS']: expected the package cryptography, got: "
            "none. pip install 'django-async-signals[encryption]'."
        ) from None
    return MultiFernet([Fernet(key) for key in keys])
