"""Instances that are made, changed, deleted and sent in any order arrive as ``instance=`` says."""

from __future__ import annotations

import contextlib
import decimal
import json

import pytest
from django.db import DatabaseError, connections, transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
    run_state_machine_as_test,
)

from async_signals import MissingInstanceError, codec
from tests.testapp.models import MADE, Article, ArticleProxy, Line, LongArticle, Note

from .test_instances import assert_same, fields_of

MODES = st.sampled_from(["reference", "snapshot", "both"])
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
#: Each kind, with the field that is changed.
KINDS = {Article: "title", ArticleProxy: "title", LongArticle: "title", Note: "text", Line: "text"}
KINDS |= dict.fromkeys(MADE, "text")
#: SQLite twice, and each server that is found.
ALIASES = [*connections]


class Sending(RuleBasedStateMachine):
    """A site and a worker; ``sent`` holds what is on its way, with what it was made of."""

    instances = Bundle("instances")
    sent = Bundle("sent")
    count = 0

    def __init__(self):
        super().__init__()
        self.transactions = contextlib.ExitStack()
        for alias in ALIASES:
            self.transactions.enter_context(transaction.atomic(using=alias))

    def teardown(self):
        for alias in ALIASES:
            transaction.set_rollback(True, using=alias)
        self.transactions.close()

    @rule(target=instances, kind=st.sampled_from([*KINDS]), name=NAMES)
    def make(self, kind, name):
        instance = kind(**{KINDS[kind]: name})
        if kind is Line:
            Sending.count += 1
            instance.order_number, instance.position = 1, Sending.count
        elif kind.__name__ == "Priced":
            Sending.count += 1
            instance.pk = decimal.Decimal(Sending.count) / 100
        return instance

    @rule(instance=instances, other=instances, name=st.sampled_from(["before", "parent", "key"]))
    def refer(self, instance, other, name):
        """Let a foreign key refer to whatever fits; also to what has no row, or not yet a key."""
        fields = {field.name: field for field in instance._meta.concrete_fields}
        field = fields.get(name)
        if field is not None and field.remote_field and isinstance(other, field.remote_field.model):
            setattr(instance, field.attname, other.pk)

    @rule(instance=instances, alias=st.sampled_from(ALIASES))
    def save(self, instance, alias):
        if instance.get_deferred_fields():
            alias = instance._state.db
            if self.row_of(instance) is None:
                return  # There is no row to load the rest from.
        with contextlib.suppress(DatabaseError), transaction.atomic(using=alias):
            instance.save(using=alias)

    @rule(instance=instances, name=NAMES)
    def change(self, instance, name):
        setattr(instance, KINDS[type(instance)], name)

    @rule(instance=instances)
    def delete(self, instance):
        if self.row_of(instance) is not None:
            instance.delete()

    @rule(target=instances, instance=instances)
    def load(self, instance):
        """Another instance of the same row, some of its fields deferred."""
        return self.row_of(instance, deferred=True) or instance

    @rule(target=sent, instance=instances, mode=MODES, fallback=st.booleans())
    def send(self, instance, mode, fallback):
        how = {"instance": mode, "fallback": fallback}
        encoded = codec.encode({"instance": instance}, receiver="r", **how)
        copy = type(instance).from_db(
            instance._state.db, [*fields_of(instance)], [*fields_of(instance).values()]
        )
        copy._state.adding = instance._state.adding
        return json.dumps(encoded), copy, mode, fallback

    @rule(message=consumes(sent))
    def receive(self, message):
        text, copy, mode, fallback = message
        refers = mode != "snapshot" and not copy._state.adding and copy._is_pk_set()
        row = self.row_of(copy) if refers else copy
        if row is None and not fallback:
            with pytest.raises(MissingInstanceError):
                codec.decode(json.loads(text))
            return
        got = codec.decode(json.loads(text))["instance"]
        assert_same(got, row or copy)
        if mode == "both":
            assert_same(got.sent, copy)

    def row_of(self, instance, *, deferred=False):
        if instance._state.db is None or not instance._is_pk_set():
            return None
        rows = type(instance)._base_manager.using(instance._state.db)
        rows = rows.defer(KINDS[type(instance)]) if deferred else rows
        return rows.filter(pk=instance.pk).first()


@pytest.mark.django_db(databases="__all__")
def test_what_arrives_is_what_was_sent() -> None:
    """In every order of steps, on every database, with keys of every kind, under each mode."""
    count = settings.default.max_examples // 6
    run_state_machine_as_test(Sending, settings=settings(max_examples=count))
