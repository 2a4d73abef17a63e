import os

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    name = "tests.testapp"
    label = "testapp"

    def ready(self) -> None:
        if "ASYNC_SIGNALS_TEST_MUTANT" in os.environ:
            from tests.faults.mutants import stay_mutated

            stay_mutated()

        from . import effects, receivers, releases  # noqa: F401
