"""A site teaches the codec its own types: those it names, and no others."""

from __future__ import annotations

import pytest
from django.db import InterfaceError, OperationalError
from django.utils.functional import SimpleLazyObject

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


class Broken:
    """Its functions fail as *how* does."""

    def __init__(self, how) -> None:
        self.how = how


@pytest.fixture(scope="module", autouse=True)
def registered():
    codec.register(
        Money,
        "tests.money",
        lambda money: money.cents,
        lambda cents, kind: kind(cents),
        subclasses=[Euro],
    )
    codec.register(Broken, "tests.broken", lambda broken: broken.how(), lambda how: how())


class TestSubclasses:
    @pytest.mark.parametrize("money", [Money(3), Euro(3)], ids=["itself", "declared"])
    def test_the_type_and_its_declared_subclasses(self, money) -> None:
        """Each arrives as what it was."""
        assert through_json([money]) == [money]

    def test_a_subclass_that_was_not_declared(self) -> None:
        """Refused by its own name: nobody said that it has nothing more to lose."""
        with pytest.raises(SerializationError, match=r"got: tests\.codec\.test_custom\.Dollar"):
            through_json(Dollar(3))

    @pytest.mark.parametrize(
        "tag",
        [
            "tests.money:Dollar",
            "tests.money:object",
            "tests.money:tests.codec.test_custom:Dollar",
            "tests.money:Money",
        ],
    )
    def test_a_class_that_only_the_message_declares(self, tag) -> None:
        """The class comes from what was registered; a message cannot add one."""
        with pytest.raises(DecodeError, match=f"cannot decode a value of type '{tag}'"):
            codec.decode({"$": tag, "v": 3})

    def test_a_hostile_message_calls_nothing(self) -> None:
        """A class or function in the content is content: no example of ours would call it."""
        called = []
        Dollar.__init__ = lambda self, cents: called.append(cents)
        try:
            for content in (
                [{"$": "class", "v": ["path", "tests.codec.test_custom:Dollar"]}, 3],
                {"$": "importable", "v": "os:system"},
            ):
                got = codec.decode({"$": "tests.money:Euro", "v": content})
                assert type(got) is Euro
        finally:
            del Dollar.__init__
        assert called == []


class TestFaults:
    def test_a_function_that_cannot_decode(self) -> None:
        """The message names the type and the kind of error; what was raised is its cause."""
        with pytest.raises(DecodeError) as caught:
            codec.decode({"$": "tests.broken", "v": "secret"})
        assert str(caught.value) == (
            "cannot decode a value of type 'tests.broken': expected the function that is "
            "registered to decode it to return a tests.codec.test_custom.Broken, got: one that "
            "raises TypeError. Let it read whatever its encode function has ever written."
        )
        assert str(caught.value.__cause__) == "'str' object is not callable"

    def test_a_function_that_decodes_to_something_else(self) -> None:
        """What arrives is of the type that was sent, or the message is refused."""
        data = {"$": "tests.broken", "v": {"$": "class", "v": ["path", "builtins:int"]}}
        with pytest.raises(DecodeError) as caught:
            codec.decode(data)
        assert str(caught.value) == (
            "cannot decode a value of type 'tests.broken': expected the function that is "
            "registered to decode it to return a tests.codec.test_custom.Broken, got: "
            "builtins.int. Let it return what was sent, of the very type."
        )

    def test_a_function_that_cannot_encode(self) -> None:
        """At send, with receiver and argument; what was raised is the cause."""

        def fail():
            raise LookupError("secret")

        with pytest.raises(SerializationError) as caught:
            codec.encode({"order": [Broken(fail)]}, receiver="shop.receive")
        assert str(caught.value) == (
            "cannot send 'order[0]' to shop.receive: expected a value that can be read, not one "
            "that raises LookupError, got: tests.codec.test_custom.Broken. Leave it out with "
            "@async_receiver(..., exclude=['order']), or send plain values, such as a primary "
            "key, in its place."
        )
        assert str(caught.value.__cause__) == "secret"

    def test_a_lazy_object_that_cannot_be_made(self) -> None:
        """What it raises is told as everything is that cannot travel."""
        with pytest.raises(SerializationError, match="not one that raises ZeroDivisionError"):
            codec.encode({"user": SimpleLazyObject(lambda: 1 / 0)}, receiver="r")

    @pytest.mark.parametrize("error", [OperationalError, InterfaceError])
    def test_a_database_that_is_away(self, error) -> None:
        """No fault of the function, nor of the message: it is retried."""

        def ask(content) -> None:
            raise error("server closed the connection unexpectedly")

        tag = f"tests.{error.__name__}"
        codec.register(type(error.__name__, (), {}), tag, vars, ask)
        with pytest.raises(error):
            codec.decode({"$": tag, "v": {}})


class Other:
    pass


class Parent:
    pass


class Child(Parent):
    pass


OTHER_CHILD = type("Child", (Parent,), {})


class TestClashes:
    @pytest.mark.parametrize(
        ("kind", "tag", "subclasses", "taken"),
        [
            (Dollar, "tests.money", (), "got: a known tag 'tests.money'"),
            (Euro, "tests.euro", (), "got: a known type Euro"),
            (Dollar, "tests.dollar", (Euro,), "got: a known type Euro"),
            (Dollar, "tests.dollar", (int,), "got: a known type int"),
            (Dollar, "tests.dollar", (Broken,), "got: a known type Broken"),
            (Dollar, "tests.dollar", (Other,), "got: another type"),
            (Money, "tests.all", (), "got: a known type Money"),
            (type(None), "tests.none", (), "got: a known type NoneType"),
            (Dollar, "field", (), "got: a known tag 'field'"),
            (Dollar, "later", (), "got: a known tag 'later'"),
            (Parent, "tests.parent", (Child, OTHER_CHILD), "got: two of one name"),
        ],
        ids=[
            "tag",
            "type",
            "type of a subclass",
            "builtin",
            "registered",
            "no subclass",
            "the type itself",
            "none",
            "tag within snapshots",
            "tag of a later release",
            "subclasses of one name",
        ],
    )
    def test_nothing_is_redefined(self, kind, tag, subclasses, taken) -> None:
        """An error, after which nothing has changed."""
        with pytest.raises(RegistrationError, match=taken):
            codec.register(kind, tag, str, kind, subclasses=subclasses)
        with pytest.raises(SerializationError):
            through_json(Dollar(3))

    def test_a_tag_that_is_no_text(self) -> None:
        """JSON has it as a text, under which nothing would be found."""
        with pytest.raises(TypeError) as caught:
            codec.register(Dollar, 5, str, str)
        assert str(caught.value) == (
            "cannot register tests.codec.test_custom.Dollar: expected a text as tag, got: int. "
            "Choose a tag of your own, 'app_label.what'."
        )
