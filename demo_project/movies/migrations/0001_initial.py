import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Genre",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True)),
            ],
            options={
                "ordering": ("name",),
            },
        ),
        migrations.CreateModel(
            name="SearchTerm",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("term", models.CharField(max_length=200, unique=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("last_searched_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("searches", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Movie",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("imdb_id", models.SlugField(unique=True)),
                ("title", models.CharField(max_length=300)),
                ("year", models.PositiveIntegerField()),
                ("is_filled", models.BooleanField(default=False)),
                ("runtime_minutes", models.PositiveIntegerField(blank=True, null=True)),
                ("plot", models.TextField(blank=True)),
                (
                    "genres",
                    models.ManyToManyField(blank=True, related_name="movies", to="movies.genre"),
                ),
            ],
            options={
                "ordering": ("title", "year"),
            },
        ),
    ]
