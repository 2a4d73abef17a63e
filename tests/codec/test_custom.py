"""A site teaches the codec its own types: those it names, and no others."""

from __future__ import annotations

import pytest

from async_signals import DecodeError, RegistrationError, SerializationError, codec

from .known import through_json


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.cents == other.cents

    __hash__ = None


class Euro(Money):
    pass


class Dollar(Money):
    pass


@pytest.fixture(scope="module", autouse=True)
def registered():
    codec.register(
        Money,
        "tests.money",
        lambda money: [type(money), money.cents],
        lambda data: data[0](data[1]),
        subclasses=[Euro],
    )


class TestSubclasses:
    @pytest.mark.parametrize("money", [Money(3), Euro(3)], ids=["itself", "declared"])
    def test_the_type_and_its_declared_subclasses(self, money) -> None:
        """Each arrives as what it was."""
        assert through_json([money]) == [money]

    def test_a_subclass_that_was_not_declared(self) -> None:
        """Refused by its own name: nobody said that it has nothing more to lose."""
        with pytest.raises(SerializationError, match=r"got: tests\.codec\.test_custom\.Dollar"):
            through_json(Dollar(3))

    def test_a_decoder_that_returns_something_else(self) -> None:
        """What arrives is of a declared type, or the message is refused."""
        encoded = codec.encode({"value": Money(3)}, receiver="r")["value"]
        encoded["v"][0]["v"][1] = "tests.codec.test_custom:Dollar"

        with pytest.raises(DecodeError, match=r"cannot decode a value of type 'tests\.money'"):
            codec.decode(encoded)


class TestClashes:
    @pytest.mark.parametrize(
        ("kind", "tag", "subclasses", "taken"),
        [
            (Dollar, "tests.money", (), "got: a known tag 'tests.money'"),
            (Euro, "tests.euro", (), "got: a known type Euro"),
            (Dollar, "tests.dollar", (Euro,), "got: a known type Euro"),
            (Dollar, "tests.dollar", (str,), "got: another type"),
        ],
        ids=["tag", "type", "type of a subclass", "no subclass"],
    )
    def test_nothing_is_redefined(self, kind, tag, subclasses, taken) -> None:
        """An error, after which nothing has changed."""
        with pytest.raises(RegistrationError, match=taken):
            codec.register(kind, tag, str, kind, subclasses=subclasses)
        with pytest.raises(SerializationError):
            through_json(Dollar(3))
