"""Where the ledger is: on the alias that a test has chosen, also in its worker processes."""

import os


class LedgerElsewhere:
    alias = os.environ.get("ASYNC_SIGNALS_TEST_LEDGER", "default")

    def db_for_read(self, model, **hints):
        return self.alias if model._meta.app_label == "async_signals" else None

    db_for_write = db_for_read

    def allow_relation(self, one, other, **hints):
        return True if one._meta.app_label == "async_signals" else None


class ReadsFromReplica:
    """What a site of one database and its replica has."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "testapp" else None

    def db_for_write(self, model, **hints):
        return "default"
