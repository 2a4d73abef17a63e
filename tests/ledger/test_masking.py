"""No secret reaches what is recorded, and looking for secrets harms nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import time
import uuid
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import pytest
from django.utils.functional import SimpleLazyObject, lazystr
from django.views.decorators.debug import sensitive_variables
from hypothesis import assume, given
from hypothesis import strategies as st

from async_signals import codec
from async_signals.ledger.forms import texts_of
from async_signals.ledger.masking import MASKED, Mask, mask_for
from tests.testapp.models import Article, Member

SECRET = "hunter2 & 'co'"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow/IBAAK+CAQ\nabc==\n-----END RSA PRIVATE KEY-----"
CERTIFICATE = PEM.replace("RSA PRIVATE KEY", "CERTIFICATE")


def raised(function, *args, **kwargs) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function(*args, **kwargs)
    return caught.value


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    name: str
    password: str


class Pair(NamedTuple):
    name: str
    token: str


@dataclasses.dataclass
class Hostile:
    password: object = None

    def _refuse(self, *args: object) -> object:
        raise RuntimeError("looked at")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __getattr__ = _refuse  # type: ignore[assignment]


class TestNames:
    @pytest.mark.parametrize(
        ("pattern", "name"),
        [
            ("*password*", "old_PASSWORD_2"),
            ("*api_key*", "X-Api-Key"),
            ("*api_key*", "api key"),
            ("owner", "owner"),
            ("owner", "owner_id"),
            ("Owner", "OWNER"),
        ],
    )
    def test_sensitive(self, pattern, name) -> None:
        """Case does not count, nor how words are joined; a foreign key has two names."""
        assert Mask([pattern]).is_sensitive(name)

    @pytest.mark.parametrize(
        "name",
        [
            "password", "passwd", "pwd", "db_pwd", "smtp_pass", "passphrase", "pin", "card_pin",
            "otp", "login_otp", "cookie", "Cookie", "Set-Cookie", "HTTP_COOKIE", "sessionid",
            "session_id", "auth", "basic_auth", "X-Auth", "access_key", "accessKey",
            "AWS_ACCESS_KEY_ID", "privatekey", "signature", "X-Amz-Signature", "sig", "jwt",
            "api_key", "creditcard", "credit_card", "card", "cvc", "cvv2", "ssn", "iban",
        ],
    )  # fmt: skip
    def test_by_default(self, name) -> None:
        """What Django's own reports hide, and what else is a secret in most sites."""
        assert mask_for((), None, None).is_sensitive(name)

    @pytest.mark.parametrize(
        "name",
        [
            "author", "author_id", "authority", "authored_by", "pinned", "opinion", "spin",
            "pinterest", "design", "designation", "signal", "assigned", "passenger", "compass",
            "passed", "bypass", "hotplug", "footprint", "key", "keyword", "public_key", "monkey",
            "discard", "cardinality", "wildcard", "postcards", "session", "classname",
            "assessment", "issn_list", "created", "using", "update_fields", "username", "email",
        ],
    )  # fmt: skip
    def test_ordinary_by_default(self, name) -> None:
        """Names that only look like secrets at a glance are shown."""
        assert not mask_for((), None, None).is_sensitive(name)

    def test_others(self) -> None:
        """A name without wildcards is that name alone, and no patterns are no names."""
        assert not Mask(["owner"]).is_sensitive("owners")
        assert not Mask([]).is_sensitive("")


class TestView:
    mask = Mask(["*password*", "*token*"], [SECRET])

    def view(self, value):
        """What the payload shows of an argument called ``value``."""
        return self.mask.view(codec.encode({"value": value}, receiver="r", instance="snapshot"))

    @pytest.mark.parametrize(
        "value",
        [
            {"password": "abc123"},
            {"a": [{"b": ({"Password": "abc123"},)}]},
            {1: 2, "password": "abc123"},
            {("my", "password"): "abc123"},
            {"$": 1, "password": {"deep": "abc123"}},
            {"password": b"abc123"},
            [("token", "abc123")],
            {"password": Decimal("4.5"), "token": ["abc123"]},
            {"name": "X-Token", "value": "abc123"},
            [{"Key": "db_password", "Value": {"S": "abc123"}}],
            "https://x.test/?token=abc123&a=1",
            "redis://user:abc123@host",
            '{"password": "abc123"}',
            Member(email="a@b.test", password="abc123"),
            {"x": Login("ada", "abc123")},
            Pair("ada", "abc123"),
            SECRET,
            f"the {SECRET} is here",
            {SECRET: 1},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_secrets_are_masked(self, value) -> None:
        """In every form that the codec has for names: fields, pairs, records, texts."""
        viewed = json.dumps(self.view(value))
        for secret in ("abc123", b"abc123".hex(), SECRET):
            assert secret not in viewed
        assert "\\u2022" in viewed

    def test_the_rest_is_kept(self) -> None:
        """What is no secret is shown as it is, and the data that it was taken from is untouched."""
        data = {"a": [1, 2.5, None, True, "x"], "b": {"password": "x", "c": {"$": "set", "v": [1]}}}
        before = json.dumps(data)
        assert self.mask.view(data) == {
            "a": [1, 2.5, None, True, "x"],
            "b": {"password": MASKED, "c": {"$": "set", "v": [1]}},
        }
        assert json.dumps(data) == before

    def test_numbers_by_value(self) -> None:
        """A number that is a secret elsewhere is one here."""
        assert Mask([], ["123456"]).view({"a": 123456, "b": 12345}) == {"a": MASKED, "b": 12345}

    def test_it_is_bounded(self) -> None:
        """JSON deeper than any that is sent is masked from there on."""
        data: list = []
        for _ in range(900):
            data = [data]
        assert MASKED in str(self.mask.view(data))

    @pytest.mark.parametrize("value", [{"$": "dict", "v": 1}, {"$": "dict", "v": [1, []]}])
    def test_what_only_looks_like_the_codec(self, value) -> None:
        """Data that poses as a tag breaks nothing."""
        assert self.mask.view(value) == value


class TestText:
    mask = Mask(["*password*", "*token*", "authorization", "*credential*"], ["s3cr3t!", "1234"])

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("it was s3cr3t!s3cr3t!", f"it was {MASKED}{MASKED}"),
            ("password=abc, user=x", f"password={MASKED}, user=x"),
            ("error: password = abc", f"error: password = {MASKED}"),
            ("{'password': 'a \\'b\\' c', 'x': 1}", f"{{'password': {MASKED}, 'x': 1}}"),
            ('{"my_token": "a b"}', f'{{"my_token": {MASKED}}}'),
            ('"{\\"token\\": \\"a b\\"}"', f'"{{\\"token\\": {MASKED}}}"'),
            ("credentials={'a': {'b': 'c d'}, 'e': 1} x", f"credentials={MASKED} x"),
            ("sent Authorization: Bearer abc.def x", f"sent Authorization: {MASKED} x"),
            ("Authorization: Digest a=1, b=2\nx", f"Authorization: {MASKED}\nx"),
            ("> sent\n>  password: a b c\n> x", f"> sent\n>  password: {MASKED}\n> x"),
            ("- my.password = a b\r\nx", f"- my.password = {MASKED}\r\nx"),
            ("password=a b", f"password={MASKED} b"),
            ("no token: 401 Unauthorized", f"no token: {MASKED} Unauthorized"),
            ("TokenError: has expired", f"TokenError: {MASKED} expired"),
            ("got Set-Token-Cookie: a=b; c=d\nx", f"got Set-Token-Cookie: {MASKED}\nx"),
            (f"token={PEM} x", f"token={MASKED} x"),
            (f"token: {PEM[:60]}", f"token: {MASKED}"),
            (f"no key {PEM} x", f"no key {MASKED} x"),
            ("no key " + PEM.replace("\n", "\\n"), f"no key {MASKED}"),
            (CERTIFICATE, CERTIFICATE),
            ("postgres://me:pw@host/db", f"postgres://me:{MASKED}@host/db"),
            ("postgres://me:p@w@host/db", f"postgres://me:{MASKED}@host/db"),
            (f"https://me:{'pw' * 200}@host", f"https://me:{MASKED}@host"),
            (f"https://{'me' * 200}:pw@host", f"https://{'me' * 200}:{MASKED}@host"),
            ("a://me:pw@host b://me:pw@host", f"a://me:{MASKED}@host b://me:{MASKED}@host"),
            ("Member(password='unclosed", f"Member(password={MASKED}"),
            ("x.token=abc", f"x.token={MASKED}"),
            ("the pin 1234, not 12345 or a1234", f"the pin {MASKED}, not 12345 or a1234"),
            ("password", "password"),
            ("password=", "password="),
            ("GET /maps?a=1&key=abc-1&b=2", f"GET /maps?a=1&key={MASKED}&b=2"),
            ("https://x.test/?KEY=abc#top", f"https://x.test/?KEY={MASKED}#top"),
            ("https://x.test/f?a=1&amp;sig=a%2Fb", f"https://x.test/f?a=1&amp;sig={MASKED}"),
            ("no cache has key=abc", "no cache has key=abc"),
            ("", ""),
        ],
    )
    def test_assignments(self, text, masked) -> None:
        """A known value, and what stands behind a secret name, in the notations of errors."""
        assert self.mask.text(text) == masked

    def test_code(self) -> None:
        """In a line of code a literal is a value and an expression is none."""
        line = "token = find(password='abc', user=user, token=token)  # s3cr3t!"
        assert self.mask.source(line) == (
            f"token = find(password={MASKED}, user=user, token=token)  # {MASKED}"
        )

    def test_unstorable(self) -> None:
        """NUL and lone surrogates, which no database takes, are dropped before the search."""
        assert self.mask.text("s3c\x00r3t! \ud800x") == f"{MASKED} x"

    @pytest.mark.parametrize(
        "text",
        ["a" * 100_000, "password=" * 10_000, "token=" + "\\" * 100_000, "token='" + "\\'" * 50_000,
         "x token: a " * 9_000, "token: \n" * 10_000, "-----BEGIN PRIVATE KEY-----" * 4_000,
         "token=-----BEGIN A-----" * 4_000, " " * 100_000 + "token: a", "?key=" * 20_000,
         'token=\\"' + "\\" * 100_000, "token=" + "(" * 100_000, "://" * 30_000],
        ids=lambda text: text[:9],
    )  # fmt: skip
    def test_hostile_texts(self, text) -> None:
        """No text takes more than linear time."""
        began = time.thread_time()
        self.mask.text(text)
        assert time.thread_time() - began < 3

    def test_it_shows_nothing_itself(self) -> None:
        """A mask in a log or in a frame does not show what it hides."""
        assert repr(self.mask) == "<Mask of 2 values>"


class TestValues:
    @pytest.mark.parametrize(
        "kwargs",
        [
            {"password": SECRET},
            {"a": {"b": [{"api_key": (SECRET,)}]}},
            {"instance": Member(email="a@b.test", password=SECRET)},
            {"x": Login("ada", SECRET)},
            {"x": Pair("ada", SECRET)},
            {"x": [("Authorization", SECRET)]},
            {"x": {b"token": SECRET.encode()}},
            {"x": MappingProxyType({"token": SECRET})},
            {"secret": bytearray(SECRET.encode())},
            {"secret": memoryview(SECRET.encode())},
            {"title": SECRET},
            {"x": Article(title=SECRET)},
            {"x": Hostile(password=SECRET), "y": Hostile()},
        ],
        ids=range(13),  # Not by their texts, which is what must not be asked for.
    )
    def test_of_arguments(self, kwargs) -> None:
        """Values under a secret name are found at any level, in containers, fields and records."""
        mask = mask_for(["title"], kwargs, None)
        for form in (SECRET, repr([SECRET]), json.dumps(SECRET), "hunter2%20%26%20%27co%27"):
            assert "hunter2" not in mask.text(f"<{form}>")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (uuid.UUID(int=7), str(uuid.UUID(int=7))),
            (uuid.UUID(int=7), uuid.UUID(int=7).hex),
            (123456, "123456"),
            (2**60, hex(2**60)),
            (Decimal("12.50"), "12.50"),
            (12.25, "12.25"),
            (dt.date(1990, 1, 2), "1990-01-02"),
            (dt.date(1990, 1, 2), "datetime.date(1990, 1, 2)"),
            (b"\x00binary\xff", repr(b"\x00binary\xff")),
            ("line number one\nline number two", "  | line number two"),
        ],
    )
    def test_forms(self, value, text) -> None:
        """A value is found in the forms in which texts hold it."""
        masked = mask_for([], {"secret": value}, None).text(f"<{text}>")
        assert text.strip("| ") not in masked

    @pytest.mark.parametrize(
        ("name", "value", "part"),
        [
            ("Authorization", "Token s3cr3t", "s3cr3t"),
            ("Authorization", b"bearer s3cr3t.s3cr3t", "s3cr3t.s3cr3t"),
            ("Authorization", "SharedKey s3cr3t-s3cr3t", "s3cr3t-s3cr3t"),
            ("Authorization", 'Digest username="ada", response="6629fae4"', "6629fae4"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIA/20, Signature=5d672d79",
                "5d672d79",
            ),
            ("Cookie", "csrftoken=a1b2c3d4; sessionid=e5f6a7b8", "e5f6a7b8"),
            ("Set-Cookie", "sessionid=e5f6a7b8; Path=/; HttpOnly", "e5f6a7b8"),
        ],
    )
    def test_of_headers(self, name, value, part) -> None:
        """The credential of a header by itself, without its scheme and the names of its parts."""
        for x in ([(name, value)], {name: value}, {"name": name, "value": value}):
            mask = mask_for([], {"x": x}, None)
            assert mask.text(f"bad <{part}>") == f"bad <{MASKED}>", x

    def test_words_of_a_passphrase(self) -> None:
        """What only consists of words is one secret."""
        mask = mask_for([], {"password": "correct horse battery", "token": "two words"}, None)
        assert mask.text("a horse, two words, the words") == f"a horse, {MASKED}, the words"

    @pytest.mark.parametrize("value", ["a=" * 50_000, "a=b;" * 25_000, "a " * 50_000, "a" * 10**5])
    def test_hostile_headers(self, value) -> None:
        """No value takes more than linear time to take apart."""
        began = time.thread_time()
        mask_for([], {"token": value}, None)
        assert time.thread_time() - began < 2

    @pytest.mark.parametrize(
        "value", ["abc", True, None, 12, "Default", "password", "", b"", 10**5000], ids=range(9)
    )
    def test_what_says_nothing(self, value) -> None:
        """Short and common values, and numbers that Python writes no digits of, are left."""
        mask = mask_for([], {"secret": value}, None)
        assert mask.text("abc True None 12 Default password") == "abc True None 12 Default password"

    @given(secret=st.text(min_size=6), before=st.text(), after=st.text())
    def test_any_text(self, secret, before, after) -> None:
        """Any text under a secret name, in any text, as it is, by ``repr()``, as JSON."""
        plain = "".join(c for c in secret.strip() if c != "\0" and not "\ud800" <= c <= "\udfff")
        assume(len(plain) >= 6 and "•" not in plain and texts_of(secret))
        assume(plain not in before + MASKED + after)
        mask = mask_for([], {"secret": secret}, None)
        for form in (secret, repr(secret), json.dumps(secret)):
            assert plain not in mask.text(f"{before} {form} {after}")
            assert plain not in json.dumps(
                mask.view({"text": f"{before} {form} {after}"}), ensure_ascii=False
            )

    def test_nothing_is_called(self, db, django_assert_num_queries) -> None:
        """No query, no lazy object evaluated, no method of the site's objects."""

        evaluated = []

        def refuse():
            evaluated.append(1)

        deferred = Member.objects.defer("password").get(
            pk=Member.objects.create(email="a@b.test", password="x").pk
        )
        kwargs = {
            "token": SimpleLazyObject(refuse),
            "x": SimpleLazyObject(refuse),
            "secret": Hostile(),
            "password": lazystr(Hostile()),
            "instance": deferred,
            "rows": Member.objects.all(),
        }
        with django_assert_num_queries(0):
            mask_for([], kwargs, None)
        assert evaluated == []

    def test_it_is_bounded(self) -> None:
        """Neither large, nor deep, nor circular arguments take long."""
        circle: dict = {"rows": [{"password": f"secret{i}"} for i in range(100_000)]}
        circle["self"] = [circle]
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        began = time.thread_time()
        mask = mask_for([], {"a": circle, "b": deep, "token": SECRET * 100_000}, None)
        mask.text("x" * 20_000)
        assert time.thread_time() - began < 5
        assert mask.text("secret7") == MASKED

    def test_settings(self, settings) -> None:
        """``SENSITIVE`` says what is secret; settings that cannot be read uncover nothing."""
        settings.ASYNC_SIGNALS = {"SENSITIVE": ["colour"]}
        assert (
            mask_for([], {"colour": "green", "password": "hunter2"}, None).text("green hunter2")
            == f"{MASKED} hunter2"
        )
        settings.ASYNC_SIGNALS = {"NO": 1}
        assert mask_for([], {"password": "hunter2"}, None).text("hunter2") == MASKED


class TestFrames:
    def masked(self, exc, *sensitive) -> bool:
        return "hunter2" not in mask_for(sensitive, None, exc).text("it is hunter2")

    def test_names(self) -> None:
        """A local variable with a secret name, in any frame; and those in containers."""

        def outer():
            password = "hunter2"
            inner(len(password))

        def inner(size):
            raise ValueError(size)

        def holding():
            data = {"deep": [{"token": "hunter2"}]}
            raise ValueError(len(data))

        assert self.masked(raised(outer))
        assert self.masked(raised(holding))

    def test_others(self) -> None:
        """A variable with another name is no secret, unless the receiver's option names it."""

        def fail():
            colour = "hunter2"
            raise ValueError(len(colour))

        assert not self.masked(raised(fail))
        assert self.masked(raised(fail), "colour")

    def test_behind_self(self) -> None:
        """An attribute of an object in a frame."""

        class Client:
            def __init__(self) -> None:
                self.api_key = "hunter2"

            def call(self):
                raise ValueError

        assert self.masked(raised(Client().call))

    def test_declared(self) -> None:
        """Django's ``sensitive_variables``: names, all, callees, arguments as passed."""

        @sensitive_variables("colour")
        def named(colour):
            raise ValueError

        @sensitive_variables()
        def every(colour):
            raise ValueError

        @sensitive_variables("colour")
        def calling(colour):
            called(colour)

        def called(colour):
            raise ValueError

        @sensitive_variables("colour")
        def changing(colour):
            colour = None  # noqa: F841
            raise ValueError

        for function in (named, every, calling, changing):
            assert self.masked(raised(function, "hunter2")), function
            assert self.masked(raised(function, colour="hunter2")), function

    def test_declared_for_a_coroutine(self) -> None:
        """``sensitive_variables`` on an ``async def`` function."""

        @sensitive_variables("colour")
        async def fail(colour):
            raise ValueError

        @sensitive_variables()
        async def every(colour):
            raise ValueError

        assert self.masked(raised(asyncio.run, fail("hunter2")))
        assert self.masked(raised(asyncio.run, every("hunter2")))

    def test_errors_that_belong_to_it(self) -> None:
        """Causes, contexts, also suppressed ones, and members of groups."""

        def deep():
            token = "hunter2"
            raise KeyError(len(token))

        def caused():
            try:
                deep()
            except KeyError as exc:
                raise ValueError from exc

        def suppressed():
            try:
                deep()
            except KeyError:
                raise ValueError from None

        def grouped():
            try:
                deep()
            except KeyError as exc:
                raise ExceptionGroup("several", [exc]) from None

        for function in (caused, suppressed, grouped):
            assert self.masked(raised(function)), function

    def test_what_an_error_carries(self) -> None:
        """Its arguments and attributes."""
        exc = ValueError({"password": "hunter2"})
        assert self.masked(exc)
        exc = ValueError()
        exc.token = "hunter2"  # type: ignore[attr-defined]
        assert self.masked(exc)

    def test_hostile_errors(self) -> None:
        """An error whose own attributes raise; a circle of causes; endless recursion."""

        class Broken(Exception):
            @property
            def args(self):
                raise RuntimeError

            __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

        def fail():
            secret = "hunter2"
            raise Broken(len(secret))

        assert self.masked(raised(fail))

        first, second = ValueError(), ValueError()
        first.__cause__, second.__cause__ = second, first
        assert not self.masked(first)

        def recurse(secret):
            recurse(secret)

        began = time.thread_time()
        assert self.masked(raised(recurse, "hunter2"))
        assert time.thread_time() - began < 2


class TestShortCut:
    """Most payloads are known to hold nothing secret, without a look at each of their values."""

    TEXTS = st.sampled_from(
        [
            "name",
            "password",
            "Pass-Word x",
            "API KEY",
            "api-key",
            "toKen_id",
            "a=b",
            "token=abc",
            "pin",
            "Pin-ID",
            "x.auth='a'",
            "auth.user",
            "sig",
            "opinion",
            "/?key=a",
            "a&sig=b",
        ]
    ) | st.text(max_size=8)
    DATA = st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    )

    @pytest.mark.parametrize("patterns", [("*pin*", "pin"), ("pin", "*pin*")])
    def test_a_pattern_and_a_name_in_it(self, patterns) -> None:
        """A name that a receiver gives narrows no pattern of the site, nor the other way round."""
        assert not Mask(patterns).leaves_alone('{"pinned": 1}')

    @given(st.dictionaries(TEXTS, DATA, max_size=4))
    def test_it_never_says_yes_where_something_is_masked(self, data) -> None:
        """Where it says that nothing is changed, the long way changes nothing."""
        mask = mask_for(("x-y*", "p?n", "[q]r"), None, None)
        for one in (mask, mask_for((), None, None)):
            if one.leaves_alone(json.dumps(data)):
                assert one.view(data) == data

    def test_it_says_yes(self) -> None:
        """To what a save sends, of a user too, and to words that have a secret's name in them."""
        data = {"created": True, "update_fields": None, "using": "default", "n": [1, "a"]}
        data |= {"instance": {"$": "model", "v": ["auth.user", 1]}, "author": "in my opinion"}
        assert mask_for((), None, None).leaves_alone(json.dumps(data))

    @pytest.mark.parametrize(
        "data",
        [
            {"api-key": 1},
            {"API KEY": 1},
            {"url": "https://a:b@c"},
            {"text": "my token: abcdef"},
            {"headers": [["Authorization", "Basic abc"]]},
            {"to\u212aen": 1},
            {"auth": 1},
            {"pin_id": 1},
            {"path": "/maps?key=abc"},
            {"text": "x" * 30_000},
        ],
    )
    def test_it_says_no(self, data) -> None:
        """To anything that a name, a text or a URL may hide in."""
        assert not mask_for((), None, None).leaves_alone(json.dumps(data))
