"""
Who reacts to what.

``@receiver`` runs inside the request that sent the signal, ``@async_receiver`` in a worker;
the functions look the same.
"""

from __future__ import annotations

import logging
import os
import time

from django.contrib.auth.signals import user_logged_in
from django.core.handlers.wsgi import WSGIHandler
from django.core.mail import mail_admins
from django.core.signals import request_finished
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import receiver

from async_signals import Retry, async_receiver, current_delivery

from .models import Genre, Movie, SearchTerm
from .search import fill_movie_details
from .signals import movie_filled, searched, searched_and_waiting

logger = logging.getLogger(__name__)

# -- A search term is new


#: Soon over, so that you need not wait for it: attempts after 0, 10 and 30 seconds.
BRIEFLY = Retry(max_attempts=3, initial_delay=10, jitter="none")


@async_receiver(
    post_save, sender=SearchTerm, dispatch_uid="search_term_saved", robust=True, retry=BRIEFLY
)
def search_term_saved(sender, instance, created, **kwargs):
    if created:
        mail_admins("New Search Term", f"A new search term was used: '{instance.term}'")


@receiver(post_save, sender=SearchTerm, dispatch_uid="search_term_noted")
def search_term_noted(sender, instance, created, **kwargs):
    """Inline, as ever: the search waits for it."""
    logger.info("Saved the search term '%s' in process %d", instance.term, os.getpid())


# -- A search is done: one slow function, which can be waited for or not


@receiver(searched_and_waiting)
@async_receiver(searched)
def find_recommendations(sender, term, found, **kwargs):
    time.sleep(1)  # In real life: ask another service, or a model.
    logger.info("Recommended movies to all who like '%s' in process %d", term, os.getpid())


# -- A movie changes


@async_receiver(movie_filled, sender=fill_movie_details)
def movie_details_arrived(sender, movie, **kwargs):
    """The sender of this signal is a function; it arrives as that function."""
    delivery = current_delivery()
    logger.info("Filled in %s by %s(), delivery %s", movie, sender.__name__, delivery.id)


def genres_were_added(sender, action, **kwargs):
    return action == "post_add"


@async_receiver(m2m_changed, sender=Movie.genres.through, when=genres_were_added)
def genres_added(sender, instance, pk_set, **kwargs):
    names = Genre.objects.filter(pk__in=pk_set).values_list("name", flat=True)
    logger.info("Added to %s: %s", instance, ", ".join(names))


@async_receiver(post_delete, sender=Movie)
def movie_deleted(sender, instance, **kwargs):
    """The row is gone by now; the instance comes with the values that it had."""
    mail_admins("Movie Deleted", f"This movie was deleted: '{instance}'")


# -- Django's own signals


@async_receiver(user_logged_in)
def user_came_in(sender, user, **kwargs):
    """The signal's ``request`` stays in the web process: no worker could use it."""
    logger.info("%s has logged in", user)


@async_receiver(request_finished, sender=WSGIHandler)
def page_served(sender, **kwargs):
    logger.debug("A page was served by %s", sender.__name__)
