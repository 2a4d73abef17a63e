"""Tests of Django's that cannot hold for a receiver that runs in a worker, and why."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING
from unittest import mock

from django.db.models import Model, QuerySet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["NOT_HOLDING", "NotHolding"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotHolding:
    """Tests that fail for one reason."""

    reason: str
    tests: tuple[str, ...]
    shows: str  #: What each failure says: a test that fails in another way is not expected.
    #: What has to be granted for the tests to pass, so that nothing else in them fails; None:
    #: the reason leaves nothing of them.
    granted: Callable[[], AbstractContextManager[None]] | None = None


@contextlib.contextmanager
def equality_by_content() -> Iterator[None]:
    """Let two instances be equal by their fields where one has no primary key, and querysets."""
    same_row = Model.__eq__

    def same_fields(one: Model, other: object) -> bool:
        if type(one) is not type(other) or None not in (one.pk, other.pk):
            return same_row(one, other)
        return all(
            getattr(one, field.attname) == getattr(other, field.attname)
            for field in one._meta.concrete_fields
            if not field.primary_key
        )

    def same_rows(one: QuerySet, other: object) -> bool:
        return (one.model, list(one)) == (other.model, list(other))

    with (
        mock.patch.object(Model, "__eq__", same_fields),
        mock.patch.object(QuerySet, "__eq__", same_rows, create=True),
    ):
        yield


#: The same for every version of Django that is supported.
NOT_HOLDING = [
    NotHolding(
        reason=(
            "The test compares what a receiver got with its own object by identity (a queryset, "
            "or an instance without primary key); a receiver in a worker gets an equal one."
        ),
        tests=(
            "signals.tests.LazyModelRefTests.test_already_loaded_model",
            "signals.tests.SignalTests.test_decorators",
            "signals.tests.SignalTests.test_delete_signals",
            "signals.tests.SignalTests.test_delete_signals_origin_model",
            "signals.tests.SignalTests.test_delete_signals_origin_queryset",
            "signals.tests.SignalTests.test_save_signals",
        ),
        shows="AssertionError: Lists differ",
        granted=equality_by_content,
    ),
    NotHolding(
        reason=(
            "The test reads what a receiver returned or raised out of the responses; that of an "
            "asynchronous receiver is None, as it has not run yet."
        ),
        tests=(
            "signals.tests.AsyncReceiversTests.test_asend",
            "signals.tests.AsyncReceiversTests.test_asend_only_async_receivers",
            "signals.tests.AsyncReceiversTests.test_asend_robust",
            "signals.tests.AsyncReceiversTests.test_asend_robust_only_async_receivers",
            "signals.tests.AsyncReceiversTests.test_send",
            "signals.tests.AsyncReceiversTests.test_send_robust",
        ),
        shows="AssertionError: Lists differ",
    ),
    NotHolding(
        reason=(
            "The test waits for Django to empty, after pre_init was sent, the very dict that the "
            "receiver got; what travels is a copy."
        ),
        tests=("signals.tests.SignalTests.test_model_pre_init_and_post_init",),
        shows="AssertionError: Lists differ",
    ),
    NotHolding(
        reason=(
            "The test sends a model of an app registry of its own, which no worker has: a model "
            "travels as its label in the installed apps."
        ),
        tests=("signals.tests.LazyModelRefTests.test_not_loaded_model",),
        shows="SerializationError: cannot send 'sender'",
    ),
    NotHolding(
        reason=(
            "The test replaces weakref.ref with a mock to count its calls; Django refers to what "
            "is connected here by weakref.WeakMethod, which cannot be made of a mock."
        ),
        tests=("signals.tests.SignalTests.test_lazy_model_signal",),
        shows="TypeError: super(type, obj): obj",
    ),
]
