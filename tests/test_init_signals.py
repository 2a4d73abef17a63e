"""``pre_init`` and ``post_init``: the instances that a delivery carries are no events."""

import pytest
from django.db.models import DEFERRED
from django.db.models.signals import post_init, pre_init

from tests.testapp.models import Tag


@pytest.fixture
def seen(connect, inline):
    seen = []

    def on_pre_init(args, kwargs, **more):
        seen.append((args, kwargs))

    def on_post_init(instance, **more):
        seen.append((instance.name, instance.get_deferred_fields()))

    connect(pre_init, on_pre_init, sender=Tag, on_commit=False)
    connect(post_init, on_post_init, sender=Tag, on_commit=False)
    return seen


def test_new_instance_is_delivered_once(seen):
    Tag(name="novel")
    assert seen == [((), {"name": "novel"}), ("novel", set())]


def test_instance_with_a_deferred_field_is_delivered_once(seen):
    Tag.from_db("default", ["name"], ["novel"])
    assert seen == [((DEFERRED, "novel"), {}), ("novel", {"id"})]
