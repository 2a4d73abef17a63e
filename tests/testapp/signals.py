from django.dispatch import Signal

reported = Signal()
broken = Signal()
closed = Signal()
limited = Signal()
many = Signal()
ordered = Signal()
