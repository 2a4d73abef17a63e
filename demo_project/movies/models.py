from django.db import models
from django.utils import timezone


class SearchTerm(models.Model):
    """What somebody has searched for, once for each term."""

    term = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_searched_at = models.DateTimeField(default=timezone.now)
    searches = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.term


class Genre(models.Model):
    name = models.CharField(max_length=100, unique=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Movie(models.Model):
    """A movie as a search finds it; the rest is filled in when somebody looks at it."""

    imdb_id = models.SlugField(unique=True)
    title = models.CharField(max_length=300)
    year = models.PositiveIntegerField()
    is_filled = models.BooleanField(default=False)
    runtime_minutes = models.PositiveIntegerField(null=True, blank=True)
    plot = models.TextField(blank=True)
    genres = models.ManyToManyField(Genre, related_name="movies", blank=True)

    class Meta:
        ordering = ("title", "year")

    def __str__(self) -> str:
        return f"{self.title} ({self.year})"


class Outage(models.Model):
    """A service that the demo pretends to be down, for as long as the row exists."""

    service = models.SlugField(unique=True)
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.service
