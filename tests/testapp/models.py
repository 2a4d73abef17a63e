import uuid

from django.db import models


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Article(models.Model):
    title = models.CharField(max_length=200)
    body = models.TextField(default="", blank=True)
    published = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    tags = models.ManyToManyField(Tag)


class LongArticle(Article):
    """A child of multi-table inheritance."""

    pages = models.IntegerField(default=1)


class ArticleProxy(Article):
    class Meta:
        proxy = True


class Label(models.Model):
    """For the receivers in this app, as is Story; other tests connect their own to the rest."""

    name = models.CharField(max_length=50)


class Story(models.Model):
    title = models.CharField(max_length=200)
    labels = models.ManyToManyField(Label)


class VisibleManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Note(models.Model):
    """A key of its own, and a default manager that hides rows."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.CharField(max_length=50)
    hidden = models.BooleanField(default=False)
    objects = VisibleManager()
