from django.dispatch import Signal

reported = Signal()
closed = Signal()
