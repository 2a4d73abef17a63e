"""
The signature of a message: HMAC-SHA256 over the whole, verified before anything is parsed.

Keys are Django's, or the package's own where ``SIGNING_KEY`` is set.
"""

from __future__ import annotations

import base64
import functools
import hmac

from django.conf import settings as django_settings
from django.utils.crypto import salted_hmac

from ..conf import get_settings
from ..exceptions import EnvelopeError

__all__ = ["SIGNATURE", "sign", "verified"]

#: Characters that a signature adds to what it signs.
SIGNATURE = 44


def sign(body: str) -> str:
    """Return *body* with its signature before it; with an empty one where ``SIGNING`` is off."""
    settings = get_settings()
    if not settings.signing:
        return f":{body}"
    key = settings.signing_key
    return f"{_signature(django_settings.SECRET_KEY if key is None else key, body)}:{body}"


def verified(wire: str) -> str:
    """
    Return the body of *wire*.

    Raises:
        EnvelopeError: It is signed with none of this process's keys.
    """
    signature, _, body = wire.partition(":")
    settings = get_settings()
    if not settings.signing:
        return body
    if settings.signing_key is None:
        keys = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
        key_name = "SECRET_KEY"
    else:
        keys = (settings.signing_key, *settings.signing_key_fallbacks)
        key_name = "SIGNING_KEY"
    # An empty key is one that everybody has.
    expected = [_bytes(_signature(key, body)) for key in keys if key]
    if not any(hmac.compare_digest(_bytes(signature), each) for each in expected):
        raise EnvelopeError(
            f"cannot trust the message: expected a signature made with {key_name} or one of "
            f"{key_name}_FALLBACKS, got: another. Give sender and worker the same keys; list a "
            f"retired key in {key_name}_FALLBACKS until its messages are consumed."
        )
    return body


def _signature(key: str | bytes, body: str) -> str:
    digest = hmac.digest(_derived(key), _bytes(body), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # Whatever a queue held is compared, not trusted.


@functools.lru_cache(maxsize=16)
def _derived(key: str | bytes) -> bytes:
    """Return a key of our own, so that no other signature of the site fits a message."""
    return salted_hmac("async_signals.envelope", b"", secret=key, algorithm="sha256").digest()
