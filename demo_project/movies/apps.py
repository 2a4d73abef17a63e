from django.apps import AppConfig


class MoviesConfig(AppConfig):
    name = "movies"

    def ready(self) -> None:
        from . import receivers  # noqa: F401  (connects them)
