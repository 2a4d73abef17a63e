"""``exclude``: what is named there does not travel."""

from django.dispatch import Signal
from django.utils.functional import SimpleLazyObject

happened = Signal()


def test_what_is_excluded_is_not_looked_at(connect, inline):
    """A lazy object that does not travel is not made, a user not fetched, for nothing."""
    made = []

    def on_event(number, **kwargs):
        pass

    connect(happened, on_event, name="test.excluded", exclude=["user"], on_commit=False)
    happened.send(sender=None, number=1, user=SimpleLazyObject(lambda: made.append(1)))
    assert made == []


def test_sender_that_cannot_travel_can_be_left_out(connect, inline):
    """The error for such a sender says to do so; the receiver gets None in its place."""
    got = []

    def on_event(sender, number, **kwargs):
        got.append((sender, number))

    connect(happened, on_event, exclude=["sender"], on_commit=False)
    happened.send(sender=object(), number=1)
    assert got == [(None, 1)]
