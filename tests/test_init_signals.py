"""``pre_init`` and ``post_init``: the instances that a delivery carries are no events."""

import pytest
from django.db.models import DEFERRED
from django.db.models.signals import post_init, pre_init

from async_signals import connect
from async_signals.testing import run_inline
from tests.testapp.models import Tag

seen = []


def on_pre_init(args, kwargs, **more):
    seen.append((args, kwargs))


def on_post_init(instance, **more):
    seen.append((instance.name, instance.get_deferred_fields()))


@pytest.fixture(autouse=True)
def connected():
    seen.clear()
    connect(pre_init, on_pre_init, sender=Tag, on_commit=False)
    connect(post_init, on_post_init, sender=Tag, on_commit=False)
    with run_inline():
        yield
    pre_init.disconnect(on_pre_init, sender=Tag)
    post_init.disconnect(on_post_init, sender=Tag)


def test_new_instance_is_delivered_once():
    Tag(name="novel")
    assert seen == [((), {"name": "novel"}), ("novel", set())]


def test_instance_with_a_deferred_field_is_delivered_once():
    Tag.from_db("default", ["name"], ["novel"])
    assert seen == [((DEFERRED, "novel"), {}), ("novel", {"id"})]
