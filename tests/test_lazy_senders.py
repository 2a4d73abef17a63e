"""``apps``, the one argument that only model signals take, means what it means for Django."""

import pytest
from django.apps.registry import Apps
from django.db.models.signals import post_save
from django.dispatch import Signal

from async_signals import async_receiver, connect


def test_lazy_sender_is_looked_for_in_the_given_registry():
    elsewhere = Apps()

    @async_receiver(post_save, sender="library.Book", apps=elsewhere)
    def on_save(sender, **kwargs): ...

    assert list(elsewhere._pending_operations) == [("library", "book")]
    post_save.disconnect(on_save, sender="library.Book", apps=elsewhere)


def test_other_signals_refuse_apps_as_they_do_from_django():
    def on_event(sender, **kwargs): ...

    with pytest.raises(TypeError, match="apps"):
        connect(Signal(), on_event, apps=Apps())
