"""Each of Django's own signals, sent as Django sends it, and what of it arrives."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import io
import re
from pathlib import Path

import django
import pytest
from django.apps import apps
from django.conf import UserSettingsHolder, settings
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth import signals as auth_signals
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core import signals as core_signals
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models import DEFERRED, signals
from django.dispatch import Signal
from django.test import Client, RequestFactory, override_settings
from django.test.client import ClientHandler
from django.test.utils import CaptureQueriesContext

import async_signals
from async_signals import RegistrationError, connect
from async_signals.builtin_signals import RULES
from tests.testapp.models import Article, ArticleProxy, LongArticle, Tag

ROOT = Path(__file__).resolve().parent.parent
ON_6_1 = django.VERSION >= (6, 1)


@pytest.fixture
def received(connect, inline):
    """Connect a receiver to a signal; return the list of what arrives, sender and arguments."""

    def receive_from(signal, **options):
        got = []

        def receive(sender, signal, **kwargs) -> None:
            got.append((sender, kwargs))

        connect(signal, receive, name=f"test.{len(got)}{id(got)}", on_commit=False, **options)
        receive_from.kept.append(receive)
        return got

    receive_from.kept = []
    return receive_from


class TestInit:
    def test_pre_init(self, received) -> None:
        """What the instance is made with arrives; a deferred field as DEFERRED."""
        got = received(signals.pre_init, sender=Tag)

        Tag(name="novel")
        Tag.from_db("default", ["name"], ["novel"])

        assert got == [
            (Tag, {"args": (), "kwargs": {"name": "novel"}}),
            (Tag, {"args": (DEFERRED, "novel"), "kwargs": {}}),
        ]

    def test_post_init(self, received) -> None:
        """The instance arrives as its fields; rebuilding it in a delivery is no event."""
        got = received(signals.post_init, sender=Tag)

        Tag(name="novel")
        Tag.from_db("default", ["name"], ["essay"])

        assert [
            (sender, kwargs["instance"].name, kwargs["instance"].get_deferred_fields())
            for sender, kwargs in got
        ] == [(Tag, "novel", set()), (Tag, "essay", {"id"})]


@pytest.mark.django_db
class TestSaveAndDelete:
    def test_pre_save(self, received) -> None:
        """A new instance arrives without key; ``update_fields`` as the frozenset that it is."""
        got = received(signals.pre_save, sender=Tag)

        tag = Tag(name="novel")
        tag.save()
        tag.save(update_fields=["name"])

        (sender, first), (_, second) = got
        instance = first.pop("instance")
        assert sender is Tag
        assert first == {"raw": False, "using": "default", "update_fields": None}
        assert (instance.pk, instance.name, instance._state.adding) == (None, "novel", True)
        assert second["instance"].pk == tag.pk
        assert second["update_fields"] == frozenset({"name"})

    @pytest.mark.parametrize("model", [Article, ArticleProxy, LongArticle])
    def test_post_save(self, model, received) -> None:
        """The saved instance of the very model that was saved, and whether it was new."""
        got = received(signals.post_save, sender=model)

        saved = model.objects.create(title="one")

        [(sender, kwargs)] = got
        assert sender is model
        assert type(kwargs["instance"]) is model
        assert kwargs == {
            "instance": saved,
            "created": True,
            "raw": False,
            "using": "default",
            "update_fields": None,
        }

    def test_post_save_of_a_fixture(self, received) -> None:
        """``loaddata`` says ``raw=True``, and so does what arrives."""
        from django.core import serializers

        got = received(signals.post_save, sender=Tag)

        [loaded] = serializers.deserialize("python", [{"model": "testapp.tag", "fields": {}}])
        loaded.save()

        assert [kwargs["raw"] for _, kwargs in got] == [True]

    @pytest.mark.parametrize("signal", [signals.pre_delete, signals.post_delete])
    def test_delete(self, signal, received) -> None:
        """The fields and the key that the row had, and the origin of the deletion."""
        got = received(signal, sender=Tag)

        tag = Tag.objects.create(name="novel")
        pk = tag.pk
        tag.delete()

        [(sender, kwargs)] = got
        instance, origin = kwargs.pop("instance"), kwargs.pop("origin")
        assert (sender, instance.pk, instance.name) == (Tag, pk, "novel")
        assert (type(origin), origin.pk) == (Tag, pk)
        assert kwargs == {"using": "default"}

    def test_delete_of_many(self, received) -> None:
        """The origin is then a queryset, which arrives empty: its rows are gone."""
        got = received(signals.post_delete, sender=Tag)
        Tag.objects.create(name="a")
        Tag.objects.create(name="b")

        Tag.objects.all().delete()

        assert sorted(kwargs["instance"].name for _, kwargs in got) == ["a", "b"]
        assert [list(kwargs["origin"]) for _, kwargs in got] == [[], []]
        assert {kwargs["origin"].model for _, kwargs in got} == {Tag}

    def test_delete_of_many_costs_no_query(self, connect, sent) -> None:
        """Not one for each instance deleted, though each carries the queryset that deletes it."""

        def queries_of_deletion() -> int:
            Tag.objects.bulk_create(Tag(name=name) for name in "abcde")
            with CaptureQueriesContext(connections["default"]) as queries:
                Tag.objects.filter(name__lt="z").delete()
            return len(queries)

        def plain(**kwargs) -> None: ...

        signals.post_delete.connect(plain, sender=Tag)  # Django asks for the rows, then.
        before = queries_of_deletion()
        connect(signals.post_delete, plain, sender=Tag, name="test.gone", dispatch_uid="gone")
        assert queries_of_deletion() == before
        signals.post_delete.disconnect(plain, sender=Tag)


@pytest.mark.django_db
class TestManyToMany:
    @pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
    def test_all_six_actions(self, reverse, received) -> None:
        """From either side: the set of keys, and None for a clearing."""
        got = received(signals.m2m_changed, sender=Article.tags.through)
        article, tag = Article.objects.create(title="one"), Tag.objects.create(name="novel")
        here, there = (tag, article) if reverse else (article, tag)
        manager = tag.article_set if reverse else article.tags

        manager.add(there)
        manager.remove(there)
        manager.clear()

        arrived = [(kwargs["action"], kwargs["pk_set"]) for _, kwargs in got]
        assert arrived == [
            ("pre_add", {there.pk}),
            ("post_add", {there.pk}),
            ("pre_remove", {there.pk}),
            ("post_remove", {there.pk}),
            ("pre_clear", None),
            ("post_clear", None),
        ]
        for sender, kwargs in got:
            assert sender is Article.tags.through
            assert kwargs["instance"] == here
            assert kwargs["model"] is type(there)
            assert (kwargs["reverse"], kwargs["using"]) == (reverse, "default")
            assert ("raw" in kwargs) is ON_6_1

    @pytest.mark.skipif(not ON_6_1, reason="m2m_changed has no raw before Django 6.1")
    def test_raw(self, received) -> None:
        """Django 6.1: a fixture's relations say ``raw=True``."""
        from django.core import serializers

        got = received(signals.m2m_changed, sender=Article.tags.through)
        tag = Tag.objects.create(name="novel")

        fields = {"title": "one", "tags": [tag.pk]}
        [loaded] = serializers.deserialize(
            "python", [{"model": "testapp.article", "pk": 1, "fields": fields}]
        )
        loaded.save()

        assert {kwargs["raw"] for _, kwargs in got} == {True}


@pytest.mark.django_db(transaction=True)
class TestMigrate:
    @pytest.mark.parametrize("signal", [signals.pre_migrate, signals.post_migrate])
    def test_migrate(self, signal, received) -> None:
        """The app's configuration arrives as the installed one; plan, apps and stdout do not."""
        config = apps.get_app_config("testapp")
        got = received(signal, sender=config)

        call_command("migrate", verbosity=0, interactive=False, stdout=io.StringIO())

        [(sender, kwargs)] = got
        assert sender is config
        assert kwargs == {
            "app_config": config,
            "verbosity": 0,
            "interactive": False,
            "using": "default",
        }


class TestDatabase:
    @pytest.mark.django_db(transaction=True)
    def test_connection_created(self, received) -> None:
        """That it was opened, and by which backend; the connection itself stays."""
        got = received(connection_created)
        connection = connections["default"]

        connection.close()
        connection.ensure_connection()

        assert got == [(type(connection), {})]

    @pytest.mark.django_db(transaction=True)
    def test_one_that_a_delivery_opens(self, inline) -> None:
        """Neither the receiver's connections nor those that decoding needs: it would not end."""
        tag = Tag.objects.create(name="novel")
        told = []

        def reconnect(**kwargs) -> None:
            told.append(kwargs)
            connections["default"].close()
            Tag.objects.count()

        signal = Signal()
        async_signals.connect(connection_created, reconnect, name="test.reconnect")
        async_signals.connect(signal, reconnect, name="test.reconnect.too")
        try:
            connections["default"].close()
            Tag.objects.count()
            assert len(told) == 1

            encoded = async_signals.codec.encode({"tag": tag}, receiver="r")
            connections["default"].close()
            assert async_signals.codec.decode(encoded) == {"tag": tag}
            assert len(told) == 1

            signal.send(sender=None)
            assert len(told) == 2
        finally:
            connection_created.disconnect(reconnect)


@pytest.mark.django_db
class TestMigrationModels:
    def test_they_cause_no_delivery(self, received, sent) -> None:
        """Models that no process can name: saving them goes on, and nothing is sent for it."""
        every = [signals.pre_init, signals.post_init, signals.pre_save, signals.post_save]
        every += [signals.pre_delete, signals.post_delete]
        received(every)
        recorder = MigrationRecorder(connections["default"])
        recorder.record_applied("testapp", "0001_one")
        recorder.record_unapplied("testapp", "0001_one")
        historical = ProjectState.from_apps(apps).apps.get_model("testapp", "Tag")
        old = historical.objects.create(name="novel")
        old.save()
        old.delete()
        assert sent == []

        Tag.objects.create(name="novel")
        assert sent != []


@pytest.mark.django_db
class TestRequests:
    def test_request_started_and_finished(self, received) -> None:
        """The class of the handler arrives; environ and scope do not."""
        started = received(core_signals.request_started)
        finished = received(core_signals.request_finished)

        Client().get("/save/", {"title": "one"})

        assert started == [(ClientHandler, {})]
        assert finished == [(None, {})]  # So says Django's test client.

    def test_of_an_asgi_handler(self, received) -> None:
        """``scope`` stays as ``environ`` does; the handler finds its way to the worker."""
        got = received(core_signals.request_started)

        core_signals.request_started.disconnect(close_old_connections)
        try:
            core_signals.request_started.send(sender=ASGIHandler, scope={"server": object()})
        finally:
            core_signals.request_started.connect(close_old_connections)

        assert got == [(ASGIHandler, {})]

    def test_of_a_real_handler(self, received) -> None:
        """As a web server calls it."""
        got = received([core_signals.request_started, core_signals.request_finished])

        environ = RequestFactory().get("/save/", {"title": "one"}).environ
        core_signals.request_started.disconnect(close_old_connections)
        core_signals.request_finished.disconnect(close_old_connections)
        try:
            WSGIHandler()(environ, lambda *args: None).close()
        finally:
            core_signals.request_started.connect(close_old_connections)
            core_signals.request_finished.connect(close_old_connections)

        assert got == [(WSGIHandler, {})] * 2

    def test_got_request_exception(self, received) -> None:
        """The fact alone: Django sends no more than the request, which stays."""
        got = received(core_signals.got_request_exception)

        Client(raise_request_exception=False).get("/save/", {"title": "one", "fail": 1})

        assert got == [(None, {})]

    def test_a_worker_knows_the_handlers(self) -> None:
        """Nothing else would import them there, and a sender is only looked up in a worker."""
        from tests.test_settings_and_checks import run

        assert (
            run(
                "import sys\n"
                "from django.core.signals import request_started\n"
                "from async_signals import async_receiver\n"
                "before = 'django.core.handlers.wsgi' in sys.modules\n"
                "@async_receiver(request_started)\n"
                "def receive(**kwargs): pass\n"
                "print(before, 'django.core.handlers.wsgi' in sys.modules)"
            )
            == "False True"
        )


class TestSettings:
    def test_setting_changed(self, received) -> None:
        """Name, value and direction arrive, in the tests that send it."""
        got = received(core_signals.setting_changed)

        with override_settings(PAGE_SIZE=7):
            pass

        assert [kwargs for _, kwargs in got] == [
            {"setting": "PAGE_SIZE", "value": 7, "enter": True},
            {"setting": "PAGE_SIZE", "value": None, "enter": False},
        ]
        assert got[0][0] is UserSettingsHolder
        assert got[1][0] is type(settings._wrapped)


@pytest.mark.django_db
class TestAuth:
    @pytest.fixture
    def request_(self):
        request = RequestFactory().get("/")
        request.session = SessionStore()
        return request

    @pytest.fixture
    def user(self):
        return User.objects.create_user("ada", password="right")

    def test_user_logged_in(self, received, request_, user) -> None:
        """The user arrives, the request does not."""
        got = received(auth_signals.user_logged_in)

        login(request_, user)

        assert got == [(User, {"user": user})]

    def test_user_logged_out(self, received, request_, user) -> None:
        """The user who was logged in; also as the lazy object that a request has."""
        from django.utils.functional import SimpleLazyObject

        got = received(auth_signals.user_logged_out)
        request_.user = SimpleLazyObject(lambda: user)

        logout(request_)

        assert got == [(User, {"user": user})]
        assert type(got[0][1]["user"]) is User

    def test_nobody_logged_out(self, received, request_) -> None:
        """Without a user Django sends the class of None, which arrives as well."""
        from django.contrib.auth.models import AnonymousUser

        got = received(auth_signals.user_logged_out)
        request_.user = AnonymousUser()

        logout(request_)

        assert got == [(type(None), {"user": None})]

    def test_user_login_failed(self, received) -> None:
        """The credentials as Django has cleaned them: without the password."""
        got = received(auth_signals.user_login_failed)

        authenticate(RequestFactory().get("/"), username="ada", password="wrong")

        assert got == [
            (
                "django.contrib.auth",
                {"credentials": {"username": "ada", "password": "********************"}},
            )
        ]


if django.VERSION >= (6, 0):
    from django.tasks import task
    from django.tasks.base import TaskResult

    @task
    def halve(number):
        return number / 2

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class OwnResult(TaskResult):
        extra: int


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has tasks since 6.0")
class TestTasks:
    @pytest.mark.parametrize(
        ("name", "status"),
        [("task_enqueued", "READY"), ("task_started", "RUNNING"), ("task_finished", "SUCCESSFUL")],
    )
    def test_each_state(self, name, status, received) -> None:
        """The task's result arrives as it was when the signal was sent."""
        from django.tasks import signals as task_signals
        from django.tasks.backends.immediate import ImmediateBackend

        got = received(getattr(task_signals, name))

        sent = halve.enqueue(4)

        [(sender, kwargs)] = got
        result = kwargs.pop("task_result")
        assert (sender, kwargs) == (ImmediateBackend, {})
        assert (result.id, str(result.status), result.args) == (sent.id, status, [4])
        assert result.task is halve
        assert result.enqueued_at == sent.enqueued_at
        assert result._return_value == (2 if status == "SUCCESSFUL" else None)

    def test_a_failed_one(self, received) -> None:
        """With the class of its error and the traceback; options of the call arrive too."""
        from django.tasks.signals import task_finished

        got = received(task_finished)

        sent = halve.using(run_after=None, backend="default").enqueue("x")

        [(_, kwargs)] = got
        assert kwargs["task_result"] == sent
        assert kwargs["task_result"].errors[0].exception_class is TypeError

    def test_the_options_of_a_call(self, received) -> None:
        """A task with options of its own arrives with them."""
        from django.tasks.signals import task_enqueued

        tasks = {
            "default": {
                "BACKEND": "django.tasks.backends.dummy.DummyBackend",
                "QUEUES": ["default", "slow"],
            }
        }
        moment = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        with override_settings(TASKS=tasks):
            got = received(task_enqueued)
            called = halve.using(queue_name="slow", run_after=moment)
            called.enqueue(4)

        # Outside of the settings that allow such a queue: the worker only reads.
        assert got[0][1]["task_result"].task == called

    def test_a_result_of_a_backends_own(self, received) -> None:
        """Arrives as itself, and a traceback with halves of characters as it was."""
        from django.tasks.base import TaskError
        from django.tasks.signals import task_finished

        got = received(task_finished)
        halve.enqueue(4)
        result = got.pop()[1]["task_result"]
        kept = {field.name: getattr(result, field.name) for field in dataclasses.fields(TaskResult)}
        error = TaskError(exception_class_path="x.Y", traceback="\ud83d\ude00")
        value = kept.pop("_return_value")
        sent = OwnResult(**kept | {"errors": [error]}, extra=3)
        object.__setattr__(sent, "_return_value", value)

        task_finished.send(type(sent), task_result=sent)

        arrived = got.pop()[1]["task_result"]
        assert (type(arrived), arrived.extra) == (OwnResult, 3)
        assert (arrived.task, arrived.return_value) == (halve, 2)
        assert arrived.errors == [error]

    def test_a_task_without_a_path(self, received) -> None:
        """What a worker could not find is refused at send, by name."""
        from django.tasks.signals import task_enqueued

        kept = received(task_enqueued)

        def local(number):
            return number

        local.__qualname__ = "nowhere"  # Django looks for a dot-free name only.
        with pytest.raises(async_signals.SerializationError) as caught:
            task(local).enqueue(4)
        assert str(caught.value).partition(" to ")[0] == "cannot send 'task_result.task'"
        assert "expected a task that can be imported as" in str(caught.value)
        assert kept == []


REFUSED = {
    "class_prepared": (
        "is sent while the models are being loaded, before any process can name the class"
    ),
    "template_rendered": (
        "carries a template and its context, which exist in the process of a test only"
    ),
    "autoreload_started": (
        "carries the reloader of the development server, which waits for what it is told"
    ),
    "file_changed": ("asks its receivers whether to reload, and cannot wait for a worker's answer"),
}


def signal_at(path: str) -> Signal:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class TestRefused:
    @pytest.mark.parametrize("path", [path for path, rule in RULES.items() if rule.refused])
    def test_at_connect(self, path) -> None:
        """A signal that makes no sense in another process, with the reason and the cure."""
        name = path.rpartition(".")[2]

        def receive(**kwargs) -> None: ...

        with pytest.raises(RegistrationError) as caught:
            connect(signal_at(path), receive, name=f"shop.on_{name}")
        assert str(caught.value) == (
            f"cannot connect shop.on_{name} to {name}: expected a signal that still means "
            f"something in another process, got: one that {REFUSED[name]}. Use a plain @receiver."
        )


class TestTable:
    def test_every_signal_of_django_has_a_row(self) -> None:
        """A signal that a new Django brings is noticed here, and a row without a signal too."""
        package = Path(django.__file__).parent
        found = set()
        for file in package.rglob("*.py"):
            names = re.findall(r"^(\w+) = (?:Model)?Signal\(", file.read_text(), re.MULTILINE)
            module = ".".join(file.relative_to(package.parent).with_suffix("").parts)
            found.update(f"{module}.{name}" for name in names)

        rows = {
            path
            for path in RULES
            if path.startswith("django.")
            and (django.VERSION >= (6, 0) or not path.startswith("django.tasks."))
        }
        assert rows == found

    def test_every_row_is_documented(self) -> None:
        """``docs/signals.md`` has a row for each, and names what is left out."""
        text = (ROOT / "docs" / "signals.md").read_text()
        for path, rule in RULES.items():
            [row] = re.findall(rf"^\| `{path.rpartition('.')[2]}` \|.*$", text, re.MULTILINE)
            assert all(f"`{argument}`" in row for argument in rule.left_out), row
            assert ("refused when connected" in row) is bool(rule.refused), row

    def test_it_loads_no_part_of_django(self) -> None:
        """Production does not load ``django.test``, nor tasks that it does not use."""
        from tests.test_settings_and_checks import run

        assert (
            run(
                "import sys; import async_signals.receivers;"
                "from django.dispatch import Signal;"
                "async_signals.connect(Signal(), print, name='x');"
                "print('django.test' in sys.modules)"
            )
            == "False"
        )
