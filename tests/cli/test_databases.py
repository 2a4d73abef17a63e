"""Deliveries on several databases: each verb takes one, and none is out of sight."""

from __future__ import annotations

import pytest

from async_signals.models import Delivery, FailureGroup, Operation, State, Turn
from tests.ledger.conftest import SENT, make, save

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def here():
    """One failed delivery where the routers say."""
    return save("default", make(receiver="shop.here"))[0]


@pytest.fixture
def there():
    """One failed delivery on another database, with its group."""
    FailureGroup.objects.using("other").create(
        fingerprint="f", receiver="shop.there", exception="x", first_at=SENT, last_at=SENT
    )
    return save("other", make(receiver="shop.there", fingerprint="f"))[0]


def receivers(answer) -> list[str]:
    return [each["receiver"] for each in answer.document["deliveries"]]


def test_reading(manage, here, there) -> None:
    """list, show, failures and stats see the database that is named, and only that."""
    assert receivers(manage("list", "--json")) == ["shop.here"]
    assert receivers(manage("list", "--json", "--database", "other")) == ["shop.there"]
    assert manage("show", there.pk).code == 2
    shown = manage("show", str(there.pk)[:30], "--database", "other", "--json")
    assert shown.document["id"] == str(there.pk)
    groups = manage("failures", "--database", "other", "--json").document["groups"]
    assert [(each["fingerprint"], each["failed"]) for each in groups] == [("f", 1)]
    stats = manage("stats", "--database", "other", "--json").document
    assert stats["states"]["failed"] == 1
    assert [each["receiver"] for each in stats["receivers"]] == ["shop.there"]


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        (["retry"], "pending"),
        (["discard", "--reason", "x"], "discarded"),
        (["replay"], "failed"),
    ],
)
def test_changing(manage, here, there, verb, state) -> None:
    """What is changed, and written down, stands on the database that is named."""
    where = ["--database", "other", "--yes"]
    assert manage(*verb, "--receiver", "shop.there", *where).code == 0

    there.refresh_from_db(using="other")
    assert there.state == state
    assert Operation.objects.using("other").get().changed == 1
    assert not Operation.objects.using("default").exists()
    assert Delivery.objects.using("other").count() == (2 if verb == ["replay"] else 1)
    assert Delivery.objects.using("default").get().state == "failed"


def test_pruning(manage) -> None:
    """Successes of the database that is named."""
    for alias in ("default", "other"):
        save(alias, make(State.SUCCEEDED))
    assert manage("prune", "--database", "other", "--yes").code == 0
    counts = [Delivery.objects.using(alias).count() for alias in ("default", "other")]
    assert counts == [1, 0]


def test_pausing_is_for_all(manage, there) -> None:
    """A receiver that only another database knows can be paused; a pause holds everywhere."""
    assert manage("pause", "shop.there").code == 0
    stats = manage("stats", "--database", "other", "--json").document
    assert [(each["receiver"], each["paused"]) for each in stats["receivers"]] == [
        ("shop.there", True)
    ]
    assert manage("resume", "shop.there").code == 0


def test_hints_name_the_database(manage, there) -> None:
    """What may be typed next finds the same deliveries."""
    told = manage("list", "--database", "other").out
    assert "async_signals failures --database other" in told


def test_an_unknown_database(manage) -> None:
    """Code 2, with those that there are."""
    answer = manage("list", "--database", "othr")
    assert answer.code == 2
    assert "Did you mean 'other'?" in answer.err


def test_stats_and_doctor_tell_of_the_others(manage, there) -> None:
    """A failure elsewhere is not out of sight."""
    document = manage("stats", "--json").document
    assert document["elsewhere"] == [{"database": "other", "failed": 1, "waiting": 0}]
    assert "stats --database other" in manage("stats").out
    told = manage("doctor").out
    assert "1 deliveries have failed on database 'other'" in told
    assert "failures --database other" in told


class TestHeld:
    @pytest.fixture
    def held(self):
        first, second = save("default", make(), make(State.PENDING))
        for delivery in (first, second):
            Turn.objects.create(key="k", delivery=delivery)
        return first, second

    def test_list_and_show(self, manage, held) -> None:
        """Who is held says by whom, and who holds says how many."""
        first, second = held
        told = {
            each["id"]: each["held_by"] for each in manage("list", "--json").document["deliveries"]
        }
        assert told == {str(first.pk): None, str(second.pk): str(first.pk)}
        assert f"held by {first.pk}" in manage("list").out
        assert f"held by {first.pk}" in manage("show", second.pk).out
        assert "holds back    1 that" in manage("show", first.pk).out
        assert manage("show", first.pk, "--json").document["holds"] == 1

    def test_the_doctor(self, manage, held) -> None:
        """Behind what waits for a person."""
        assert "1 deliveries wait for their turn behind one that has failed" in manage("doctor").out
