"""``exclude``: what is named there does not travel."""

from django.dispatch import Signal

happened = Signal()


def test_sender_that_cannot_travel_can_be_left_out(connect, inline):
    """The error for such a sender says to do so; the receiver gets None in its place."""
    got = []

    def on_event(sender, number, **kwargs):
        got.append((sender, number))

    connect(happened, on_event, exclude=["sender"], on_commit=False)
    happened.send(sender=object(), number=1)
    assert got == [(None, 1)]
