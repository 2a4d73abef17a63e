import uuid

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import ArrayField
from django.db import models

from async_signals import AtomicSave

from .fields import BareField, ForgetfulField, MoneyField


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Order(AtomicSave, models.Model):
    """Its saves are transactions."""

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


class Echo(AtomicSave, models.Model):
    """Its receivers, in this app, save it again."""

    name = models.CharField(max_length=50)


class VisibleManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Note(models.Model):
    """A key of its own, and a default manager that hides rows."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.CharField(max_length=50)
    hidden = models.BooleanField(default=False)
    objects = VisibleManager()


class Dated(models.Model):
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Product(Dated):
    """One field of each kind that needs care."""

    price = MoneyField(null=True)
    data = models.JSONField(default=dict)
    net = models.IntegerField(default=100)
    gross = models.GeneratedField(
        expression=models.F("net") * 2, output_field=models.IntegerField(), db_persist=True
    )
    stock = models.IntegerField(db_default=7)
    manual = models.FileField(upload_to="manuals", blank=True)
    digest = models.BinaryField(default=b"")
    lasts = models.DurationField(null=True)
    forgotten = ForgetfulField(null=True)


class Quota(models.Model):
    """Has a default of Python's and one of the database's."""

    amount = models.IntegerField(default=1, db_default=5)


class Remark(models.Model):
    """Belongs to any object."""

    # No constraint: this app has no migrations, so its tables are made before that of the types.
    content_type = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    object_id = models.CharField(max_length=50)
    target = GenericForeignKey("content_type", "object_id")


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    number = models.IntegerField(unique=True)


class City(models.Model):
    """Refers to another column than the key."""

    country = models.ForeignKey(Country, models.CASCADE, to_field="number")
    name = models.CharField(max_length=50)


class Line(models.Model):
    """A key of two columns."""

    pk = models.CompositePrimaryKey("order_number", "position")
    order_number = models.IntegerField()
    position = models.IntegerField()
    text = models.CharField(max_length=50)


class CityView(models.Model):
    """Over a table that Django does not manage."""

    name = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "testapp_city"


class Member(AbstractBaseUser):
    """A user model that a site may swap in."""

    email = models.CharField(max_length=50, unique=True)
    USERNAME_FIELD = "email"


class Letter(models.Model):
    """Has a field of the name that ``instance="both"`` needs."""

    sent = models.BooleanField(default=False)


class Playlist(models.Model):
    """For PostgreSQL only: its tests make the table."""

    titles = ArrayField(models.CharField(max_length=50))
    prices = ArrayField(MoneyField())

    class Meta:
        managed = False


class Shelf(models.Model):
    """For PostgreSQL only, with a key that is an array."""

    key = ArrayField(models.IntegerField(), primary_key=True)

    class Meta:
        managed = False


class Span(models.Model):
    """For PostgreSQL only, with a key that its driver adapts."""

    key = models.DurationField(primary_key=True)

    class Meta:
        managed = False


class Bare(models.Model):
    """For PostgreSQL only, with a key whose field hands on whatever it is given."""

    key = BareField(primary_key=True)

    class Meta:
        managed = False


class Shape(models.Model):
    """For PostgreSQL only, with a key of JSON."""

    key = models.JSONField(primary_key=True)

    class Meta:
        managed = False


class Sent(models.Model):
    """Written in the transaction that sends: the truth about what was committed."""

    run = models.CharField(max_length=32)
    number = models.IntegerField()


class Applied(models.Model):
    """Written by receivers whose effect happens once; no constraint hides a second one."""

    run = models.CharField(max_length=32)
    number = models.IntegerField()
    at = models.FloatField()  # Of the clock that all processes of a host have.


class Coin(models.Model):
    """A key whose values are of a type that only its field knows."""

    id = MoneyField(primary_key=True)


class Purse(models.Model):
    coin = models.ForeignKey(Coin, models.CASCADE, null=True)


class LoudQuerySet(models.QuerySet):
    def loud(self):
        return [song.title.upper() for song in self]


class LoudManager(models.Manager):
    """Says nowhere but in its method of which class its querysets are."""

    def get_queryset(self):
        return LouderQuerySet(self.model, using=self._db)


class LouderQuerySet(LoudQuerySet):
    pass


class Song(models.Model):
    """Three managers, with querysets of three classes."""

    title = models.CharField(max_length=50)
    objects = models.Manager()
    shouted = LoudQuerySet.as_manager()
    yelled = LoudManager()


def _key() -> str:
    return uuid.uuid4().hex


#: Models that differ in their keys, each with a foreign key to the one before and to itself.
MADE = []
for _name, _field in {
    "Numbered": models.BigAutoField(primary_key=True),
    "Unique": models.UUIDField(primary_key=True, default=uuid.uuid4),
    "Coded": models.CharField(primary_key=True, max_length=32, default=_key),
    "Priced": models.DecimalField(primary_key=True, max_digits=12, decimal_places=2),
    "Extended": models.OneToOneField(Article, models.CASCADE, primary_key=True),
}.items():
    _fields = {
        "__module__": __name__,
        "__doc__": "One of MADE.",
        "key": _field,
        "text": models.CharField(max_length=50),
        "before": models.ForeignKey(MADE[-1] if MADE else Article, models.CASCADE, null=True),
        "parent": models.ForeignKey("self", models.CASCADE, null=True),
        "Meta": type("Meta", (), {"default_related_name": "+"}),
    }
    MADE.append(type(_name, (models.Model,), _fields))


class Entry(models.Model):
    """A key of two columns, one of them of a type that only its field knows."""

    pk = models.CompositePrimaryKey("amount", "position")
    amount = MoneyField()
    position = models.IntegerField()
