"""The app's own signals: plain signals of Django, which know nothing of workers."""

from django.dispatch import Signal

#: A movie has its details. Sender: the function that filled them in; ``movie``.
movie_filled = Signal()

#: A search is done. Sender: the function that searched; ``term``, ``found``.
searched = Signal()

#: The same for somebody who would rather wait for all that follows.
searched_and_waiting = Signal()
