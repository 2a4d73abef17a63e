"""A lazy object at the top level of a module, that tells when it is woken."""

from django.utils.functional import SimpleLazyObject

calls = []
lazy = SimpleLazyObject(lambda: calls.append("woken"))
