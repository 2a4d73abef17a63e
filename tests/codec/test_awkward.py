"""What JSON, or a type itself, would bend on the way: it survives, or it is refused by name."""

from __future__ import annotations

import enum
import itertools
import json
import pathlib
import sys
import time
import zoneinfo
from collections import OrderedDict

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.fields.files import FieldFile
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString
from django.utils.translation import ngettext_lazy, npgettext_lazy, override

from async_signals import SerializationError, codec
from async_signals.codec.table import Encoder, Unsendable
from tests.testapp.models import Article, Product

from .known import Colour, Pair, Point, same, through_json

SPLIT = "\ud83d\ude00"  # Two characters to Python, one to every reader of JSON.
JOINED = "\U0001f600"


class TestSurrogates:
    @pytest.mark.parametrize(
        "value",
        [
            SPLIT,
            JOINED,
            f"a{SPLIT}{JOINED}{SPLIT}z",
            "\ude00\ud83d",
            {SPLIT: 1, JOINED: 2},
            {"a": {SPLIT: {SPLIT: SPLIT}}},
            OrderedDict({SPLIT: 1, JOINED: 2}),
            SafeString(SPLIT),
            pathlib.PurePosixPath(SPLIT),
            {SPLIT, JOINED},
            Pair(SPLIT, (JOINED, SPLIT)),
        ],
    )
    def test_two_halves_stay_two(self, value) -> None:
        """As a value, as a key, and beside the character that they would make together."""
        assert same(through_json(value), value)

    def test_in_a_json_field(self) -> None:
        """What a snapshot holds is encoded as everything is."""
        product = Product(data={SPLIT: [SPLIT, {JOINED: 1, "$": SPLIT}]})

        assert same(through_json(product, instance="snapshot").data, product.data)

    @pytest.mark.parametrize("text", ["", "plain", "\N{SNOWMAN}", JOINED, "\ud800", "\ude00\ud83d"])
    def test_all_other_texts_are_plain(self, text) -> None:
        """Nothing is paid, on the wire, by a text that JSON does not bend."""
        assert codec.encode({"value": text}, receiver="r") == {"value": text}

    def test_the_name_of_an_argument(self) -> None:
        """No name is written in pieces: it is refused."""
        with pytest.raises(SerializationError, match="a name other than that of a tag"):
            codec.encode({SPLIT: 1}, receiver="r")

    @pytest.mark.parametrize("name", [SPLIT, 1], ids=ascii)
    def test_the_name_of_an_attribute(self, name) -> None:
        """Neither is that of an attribute, or a number that stands for one."""
        point = Point(1)
        vars(point)[name] = 2

        with pytest.raises(SerializationError, match="whose name is a plain text"):
            through_json(point)


class TestTime:
    @pytest.mark.parametrize("key", ["$", 5, SPLIT], ids=ascii)
    def test_a_dict_within_a_dict_is_encoded_once(self, key) -> None:
        """Keys that JSON does not have cost the same on each level, not twice as much."""
        value = {}
        for _ in range(90):
            value = {"first": value, key: 1}
        begun = time.thread_time()
        encoded = codec.encode({"value": value}, receiver="r")

        assert time.thread_time() - begun < 1
        assert codec.decode(encoded["value"]) == value


class TestDepth:
    def test_what_was_refused_leaves_no_trace(self) -> None:
        """A walk that goes on behind a value that cannot travel has its hundred levels again."""
        encoder = Encoder()
        for _ in range(3):
            with pytest.raises(Unsendable):
                encoder.encode([[[object()]]])
        assert encoder.depth == 0


class Turned(enum.Enum):
    """Names its members as it likes."""

    A = 1
    B = 2

    @property
    def name(self):
        return {"A": "B", "B": "A"}[self._name_]

    @property
    def value(self):
        return 0


class TestOwnWords:
    @pytest.mark.parametrize("member", Turned)
    def test_an_enum_with_names_of_its_own(self, member) -> None:
        """The very member, whatever it says that it is called."""
        assert through_json(member) is member

    @pytest.mark.parametrize(
        "text", ["./a:b", "a:b", "c:\\x", "c:x", "\\\\host\\share\\x", "a/./b", ""]
    )
    def test_a_path_is_never_another(self, text) -> None:
        """Python before 3.12 writes ``./a:b`` as ``a:b``, a drive: refused there."""
        path = pathlib.PureWindowsPath(text)
        if sys.version_info < (3, 12) and text == "./a:b":
            with pytest.raises(SerializationError, match="a path that its text leads back to"):
                through_json(path)
            return
        assert same(through_json(path), path)

    def test_a_zone_from_a_file(self) -> None:
        """``from_file()`` takes any data under any key: such a zone may not mean its name."""
        import datetime as dt
        import io

        name = "America/New_York"
        paths = [pathlib.Path(root) / name for root in zoneinfo.TZPATH]
        data = next((path.read_bytes() for path in paths if path.exists()), None)
        if data is None:
            from importlib import resources

            data = resources.files("tzdata").joinpath(f"zoneinfo/{name}").read_bytes()
        zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key="Europe/Berlin")

        with pytest.raises(SerializationError, match="zoneinfo or fixed-offset time zone"):
            through_json(dt.datetime(2026, 7, 1, tzinfo=zone))
        fresh = zoneinfo.ZoneInfo.no_cache("Europe/Berlin")
        got = through_json(dt.datetime(2026, 7, 1, tzinfo=fresh))
        assert got.utcoffset() == dt.timedelta(hours=2)

    def test_what_a_middleware_puts_on_nobody(self) -> None:
        """The attributes of an ``AnonymousUser`` arrive, or are refused by their names."""
        user = AnonymousUser()
        user.tenant = ("acme", 3)
        for value in (user, SimpleLazyObject(lambda: user)):
            assert vars(through_json(value)) == {"tenant": ("acme", 3)}

        user.request = object()
        with pytest.raises(SerializationError) as caught:
            through_json(user)
        assert caught.value.path == "value.request"

    def test_what_only_the_started_program_has(self) -> None:
        """A class of ``__main__`` is another one, or none, in the worker."""
        kind = type("InMain", (), {"__module__": "__main__"})
        sys.modules["__main__"].InMain = kind
        try:
            with pytest.raises(SerializationError, match="Define it at the top level of a module"):
                through_json(kind)
        finally:
            del sys.modules["__main__"].InMain


class TestLazyNumbers:
    def test_a_text_that_waits_for_its_number(self) -> None:
        """It is no text yet: refused, with the cure."""
        for text in (
            ngettext_lazy("%d day", "%d days"),
            npgettext_lazy("past", "%(n)d day", "%(n)d days", "n"),
        ):
            with pytest.raises(SerializationError) as caught:
                codec.encode({"text": text}, receiver="shop.receive")
            told = str(caught.value)
            assert told.startswith(
                "cannot send 'text' to shop.receive: expected a text, not one that waits for its "
                "number, got: "
            )
            assert told.endswith(". Give it the number first: text % number.")

    def test_with_its_number(self) -> None:
        """A plural that knows its number is the text that it is."""
        with override("de"):
            text = ngettext_lazy("%(num)d minute", "%(num)d minutes", 3) % {"num": 3}
            assert through_json(text) == "3\xa0Minuten" or "3" in through_json(text)
            assert type(through_json(text)) is str
        assert type(through_json(npgettext_lazy("past", "a", "b", 2))) is str


class TestFiles:
    field = Product._meta.get_field("manual")

    @pytest.mark.parametrize(
        "file",
        [
            FieldFile(None, field, "x"),
            FieldFile(Article(), field, "x"),
            type("Sub", (FieldFile,), {})(Product(), field, "x"),
        ],
        ids=["no instance", "a field of another model", "another class"],
    )
    def test_one_that_no_instance_has(self, file) -> None:
        """A worker could not rebuild it: refused where it is sent."""
        with pytest.raises(SerializationError, match="expected a file of a field of its instance"):
            through_json(file)

    @pytest.mark.parametrize(
        "file", [ContentFile(b"x", "a.txt"), SimpleUploadedFile("a.txt", b"x")]
    )
    def test_an_upload(self, file) -> None:
        """Its content is in this process; the message says what to do with it."""
        with pytest.raises(SerializationError) as caught:
            codec.encode({"upload": file}, receiver="shop.receive")
        assert str(caught.value) == (
            "cannot send 'upload' to shop.receive: expected a file that is stored already, got: "
            f"{type(file).__module__}.{type(file).__qualname__}. Save it to a file field or a "
            "storage first and send its name there, or leave it out with exclude=['upload']."
        )


def test_every_mix_of_keys() -> None:
    """Names, tags, numbers and halves of characters as keys of one dict, in their order."""
    keys = ["a", "$", 1, SPLIT, JOINED, Colour.RED, None]
    for some in itertools.combinations(keys, 3):
        value = {key: json.dumps(str(key)) for key in some}
        assert same(through_json(value), value)
