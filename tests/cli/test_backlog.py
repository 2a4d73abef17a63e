"""``doctor --backlog``: whether this code can deliver what is not done, without running it."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connections
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from async_signals import codec
from async_signals.cli import backlog
from async_signals.ids import new_id
from async_signals.models import State
from async_signals.wire.envelope import bundled, dump, load
from tests.ledger.conftest import make, save
from tests.testapp.models import Article, Line, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

changed = Signal()


class Name:
    """Of the receiver of each test: one of its own, however long a function lives."""

    used = ""


@pytest.fixture(autouse=True)
def _name(monkeypatch) -> None:
    monkeypatch.setattr(Name, "used", f"shop.receive_{new_id()}")


@pytest.fixture
def receiver(connect):
    """Connect the receiver; whatever is asked of it, it must not run."""
    alive = []

    def receiver(function, signal=changed, **options):
        alive.append(function)
        connect(signal, function, name=Name.used, robust=True, **options)

    return receiver


def never():
    """Return a receiver that must not run."""

    def receive(**kwargs) -> None:
        raise AssertionError("it must not run")

    return receive


def row(
    state=State.FAILED,
    *,
    kwargs=None,
    version=1,
    using="default",
    signal=f"{__name__}.changed",
    **fields,
):
    """Put a delivery with these arguments into the ledger."""
    delivery = make(state, receiver=Name.used, **fields)
    if "envelope" not in fields:
        envelope = load(delivery.envelope)._replace(
            signal=signal,
            kwargs=kwargs if kwargs is not None else {"number": 1},
            payload_version=version,
        )
        delivery.envelope = dump(envelope)
    save(using, delivery)
    return delivery


def encoded(**values):
    return codec.encode(values, receiver="x")


def test_all_is_well(manage, receiver) -> None:
    """Waiting and failed ones are looked at, no others; code 0."""
    receiver(never())
    for state in State:
        row(state)
    row(State.FAILED, envelope="")  # Nothing to deliver.

    answer = manage("doctor", "--backlog", "--json")
    assert (answer.code, answer.document["checked"], answer.document["problems"]) == (0, 4, [])
    assert "can deliver all 4" in manage("doctor", "--backlog").out


def test_each_in_a_bundle(manage, receiver) -> None:
    """A row that stands for several deliveries counts for as many, those alone that are wrong."""
    receiver(never())
    texts = [row().envelope for _ in range(3)]
    row(State.PUBLISHED, size=3, envelope=bundled(texts))
    newer = texts[0].replace('"sent_at"', '"payload":7,"sent_at"')
    row(State.PUBLISHED, size=3, envelope=bundled([newer, *texts[:2]]))

    answer = manage("doctor", "--backlog", "--json").document
    assert (answer["checked"], answer["undeliverable"]) == (3 + 3 + 3, 1)
    assert "version 7" in answer["problems"][0]["reason"]


def test_on_every_database(manage, receiver) -> None:
    """Durable deliveries stand on others, too."""
    row(using="other")
    answer = manage("doctor", "--backlog", "--json")
    assert [each["database"] for each in answer.document["problems"]] == ["other"]


class TestProblems:
    def problem(self, manage) -> dict:
        answer = manage("doctor", "--backlog", "--json")
        assert answer.code == answer.document["exit"] == 1
        [problem] = answer.document["problems"]
        return problem

    def test_nobody_knows_the_receiver(self, manage) -> None:
        """With the cure for one that was renamed, and the number of deliveries."""
        first, _ = row(), row()
        problem = self.problem(manage)
        assert "aliases=" in problem["reason"]
        assert (problem["number"], problem["first"]) == (2, str(first.pk))
        told = manage("doctor", "--backlog").out
        assert f"2 to {Name.used} on database 'default'" in told
        assert "2 of 2 cannot be delivered" in told

    def test_an_envelope_of_the_future(self, manage, receiver) -> None:
        """Its version cannot be read."""
        receiver(never())
        row(envelope='{"v":99}')
        assert "version 99" in self.problem(manage)["reason"]

    def test_an_envelope_that_is_broken(self, manage, receiver) -> None:
        """It is told, and quoted nowhere."""
        receiver(never())
        row(envelope="not JSON with a secret")
        assert "secret" not in self.problem(manage)["reason"]

    def test_a_payload_of_the_future(self, manage, receiver) -> None:
        """The receiver has not so many upcasters."""
        receiver(never())
        row(version=3)
        assert "version 3" in self.problem(manage)["reason"]

    def test_a_type_that_is_gone(self, manage, receiver) -> None:
        """A model, or a registered type, that this code has not."""
        receiver(never())
        row(kwargs={"it": {"$": "model", "v": ["shop.gone", None, 1, None]}})
        assert "model" in self.problem(manage)["reason"]

    def test_arguments_that_the_receiver_does_not_take(self, manage, receiver) -> None:
        """Its signature is asked."""
        receiver(lambda number, **kwargs: None)
        row(kwargs={"other": 1})
        assert "'number'" in self.problem(manage)["reason"]

    def test_an_upcaster_that_fails(self, manage, receiver) -> None:
        """By the kind of its error only: what it says may be data."""

        def upcast(kwargs):
            raise ValueError("a secret")

        receiver(never(), upcasters=[upcast])
        row()
        reason = self.problem(manage)["reason"]
        assert "ValueError" in reason
        assert "secret" not in reason


def test_upcasters_are_asked(manage, receiver) -> None:
    """What they return has to fit."""

    def upcast(kwargs):
        return {"count": kwargs["number"]}

    receiver(lambda count, signal, sender: None, upcasters=[upcast])
    row()
    assert manage("doctor", "--backlog").code == 0


def test_no_row_is_fetched(manage, receiver) -> None:
    """Instances and querysets are not looked for: deleted or not, the payload is what counts."""
    gone = Tag(pk=10**9)
    gone._state.adding = False
    gone._state.db = "default"
    line = Line(order_number=1, position=2)
    line._state.adding = False
    kept = Article.objects.create(title="a")
    seen = []

    def upcast(kwargs):
        seen.extend([kwargs["tag"].pk, kwargs["line"].pk, len(kwargs["articles"])])
        return kwargs

    receiver(lambda tag, line, articles, **kwargs: None, upcasters=[upcast])
    row(kwargs=encoded(tag=gone, line=line, articles=Article.objects.filter(pk=kept.pk)))

    with CaptureQueriesContext(connections["default"]) as queries:
        assert manage("doctor", "--backlog").code == 0
    told = [query["sql"] for query in queries if "testapp" in query["sql"]]
    assert (told, seen) == ([], [10**9, (1, 2), 1])


def test_an_upcaster_that_asks_the_database(manage, receiver) -> None:
    """Nobody can say without it: counted apart, and no problem."""
    tag = Tag.objects.create(name="a")

    def upcast(kwargs):
        return {"name": kwargs["tag"].name}

    receiver(lambda name, **kwargs: None, upcasters=[upcast])
    row(kwargs=encoded(tag=tag))
    answer = manage("doctor", "--backlog", "--json")
    assert (answer.code, answer.document["unchecked"]) == (0, 1)
    assert "1 were not checked" in manage("doctor", "--backlog").out


def test_model_signals(manage, connect) -> None:
    """What a save has sent fits a receiver of saves."""
    receive = never()
    connect(post_save, receive, sender=Tag, name=Name.used, robust=True)
    kwargs = encoded(instance=Tag(pk=1), created=True, update_fields=None, raw=False)
    row(kwargs=kwargs, signal="django.db.models.signals.post_save")
    assert manage("doctor", "--backlog").code == 0


def test_many(manage, receiver, monkeypatch) -> None:
    """Read in chunks; kinds of problems that are named are bounded, their number is not."""
    monkeypatch.setattr(backlog, "CHUNK", 50)
    monkeypatch.setattr(backlog, "NAMED", 3)
    save(
        "default",
        *(make(receiver=f"shop.gone_{number % 5}", number=number) for number in range(220)),
    )
    with CaptureQueriesContext(connections["default"]) as queries:
        answer = manage("doctor", "--backlog", "--json")
    asked = [query for query in queries if "async_signals_delivery" in query["sql"]]
    assert len(asked) == 6 + 1  # The last one for bundles.
    found = answer.document
    assert (found["checked"], found["undeliverable"], len(found["problems"])) == (220, 220, 3)
    assert "and 88 more" in manage("doctor", "--backlog").out


@pytest.mark.parametrize("options", [[], ["--backlog"]], ids=["doctor", "backlog"])
def test_a_database_that_does_not_answer_is_named(manage, monkeypatch, options) -> None:
    """Nobody can say that all is well there."""
    monkeypatch.setattr("async_signals.ledger._next_look", {})
    monkeypatch.setattr("async_signals.ledger._left_alone", {})

    def refuse(*args):
        raise OperationalError("the database is gone")

    monkeypatch.setattr(connections["other"].introspection, "table_names", refuse)
    answer = manage("doctor", *options)

    assert answer.code != 0
    assert "'other' does not" in answer.out
