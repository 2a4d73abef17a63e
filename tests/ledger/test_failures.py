"""What is recorded of a failure, and which failures are one and the same."""

from __future__ import annotations

import base64
import dataclasses
import random
import string
import sys
import time
import uuid

import pytest
from django.db import IntegrityError, connections, transaction

from async_signals.exceptions import DecodeError
from async_signals.ledger.failures import death_of, failure_of
from async_signals.ledger.masking import Mask, mask_for
from async_signals.ledger.shapes import shape_of
from tests.testapp.models import Article, Member

OPEN = Mask([])

SOURCE = """
def receive(number, **kwargs):
    find(number)

def find(number):
    raise LookupError(f"no order {number} of 'Ada Lovelace' for a{number}@b.test")

def find_other(number):
    raise LookupError(f"no order {number} of 'Ada Lovelace' for a{number}@b.test")

def receive_other(number, **kwargs):
    find_other(number)
"""


@pytest.fixture
def load(tmp_path):
    """Run source as the site's module ``shop.receivers``; returns what it defines."""

    def run(source: str = SOURCE, name: str = "shop.receivers") -> dict:
        path = tmp_path / f"{uuid.uuid4().hex}.py"
        path.write_text(source)
        defined = {"__name__": name}
        exec(compile(source, str(path), "exec"), defined)
        return defined

    return run


def raised(function, *args, **kwargs) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function(*args, **kwargs)
    return caught.value


def failed(function, *args, mask=OPEN, **kwargs):
    return failure_of(raised(function, *args, **kwargs), mask)


def says(message: str) -> str:
    """The fingerprint of an error that says *message*."""
    return failure_of(ValueError(message), OPEN).fingerprint


class TestFingerprint:
    def test_of_no_code_of_the_site(self, load) -> None:
        """Such errors are alike in one receiver only; others are, wherever they were called."""
        exc = DecodeError("no row 7")
        one, same, other = (failure_of(exc, OPEN, receiver=name).fingerprint for name in "aab")
        assert one == same != other
        own = raised(load("def receive():\n    raise ValueError('x')\n")["receive"])
        one, other = (failure_of(own, OPEN, receiver=name).fingerprint for name in "ab")
        assert one == other

    def test_equal_failures(self, load) -> None:
        """The same error at the same place is one, whatever it is about and wherever it runs."""
        site, elsewhere = load(), load("\n\n# A comment.\n" + SOURCE)
        fingerprints = {
            failed(site["receive"], 1).fingerprint,
            failed(site["receive"], 23456).fingerprint,
            failed(elsewhere["receive"], 1).fingerprint,
        }
        assert len(fingerprints) == 1
        (fingerprint,) = fingerprints
        assert len(fingerprint) == 32
        assert int(fingerprint, 16)

    def test_another_place_or_type(self, load) -> None:
        """Another function, module, type or wording is another failure."""
        site = load()
        fingerprints = [
            failed(site["receive"], 1).fingerprint,
            failed(site["receive_other"], 1).fingerprint,
            failed(site["find"], 1).fingerprint,
            failed(load(name="shop.others")["receive"], 1).fingerprint,
            failed(load(SOURCE.replace("LookupError", "KeyError"))["receive"], 1).fingerprint,
            failed(load(SOURCE.replace("no order", "two orders"))["receive"], 1).fingerprint,
        ]
        assert len({*fingerprints}) == len(fingerprints)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("order 1", "order 234"),
            ("balance -5 is too low", "balance 17 is too low"),
            ("rows [1, 2] are missing", "rows [3, 4, 5] are missing"),
            (r"no 'it\'s'", "no 'b'"),
            ("at 12:30:01.5", "at 1:02:03"),
            ("no 'a'", "no 'b c'"),
            ('no "a"', 'no "b c"'),
            ("mail a@b.test", "mail c.d+e@f.g.test"),
            ("GET https://a.test/?x=1 failed", "GET http://b.test failed"),
            (
                "row 27e6bdb1-5803-4e9a-89c2-98ac461c5280",
                "row a8fb0818-5e60-4573-8c6c-d9ee25858a4f",
            ),
            ("no /tmp/a1/b.txt", "no /srv/c.pdf"),
            ("no media/a.txt", "no media/b/c.txt"),
            (r"no C:\a\b.txt", r"no D:\c.txt"),
            ("object at 0x7f00aa", "object at 0x1"),
            ("pin 12", "pin ••••"),
            ("commit deadbeef1234", "commit 0123456789abcdef"),
            ("so " * 200 + "1", "so " * 200 + "other"),
            ("no customer cus_NffrFeUfNV2Hib", "no customer cus_9s6XKzkNRiz8i3"),
            ("order 01ARZ3NDEKTSV4RRFFQ69G5FAV", "order 01BX5ZZKBKACTAV9WEVGEMMVRZ"),
            ("no V1StGXR8_Z5jdHi6B-myT", "no -6xKqT_Z5jdHi6BmyT4gR"),
            ("no vytxeTZskVKR7C7WgdSP3d", "no kAbBcVdSeTfSgRhGiZjQkH"),
            ("SKU JXR-6899 is gone", "SKU AB-1 is gone"),
            ("(RequestId: HNEQ7Q1ZQ8XKJ0PD)", "(RequestId: BCDFGHJKLMNPQRST)"),
            ("token q83vEjRWeJCrze8/ bad", "token aGVs//+sbG8gd29ybGQ= bad"),
            ("no “Ada Lovelace”", "no “Bob”"),
            ("no ‘Ada’", "no ‘Bob’"),  # noqa: RUF001
            ("no „Ada“", "no „Bob“"),
            ("no «Ada»", "no «Bob»"),
            ("no b'ada'", "no b'bob'"),
            ("to fe80::1ff:fe23:4567:890a failed", "to 2001:db8::1 failed"),
            ("to [::1]:80 failed", "to [2001:db8:0:1:1:1:1:1]:8080 failed"),
            ("at Jan 12", "at March 3"),
            ("on 3rd May 2026", "on 12 Dec 2026"),
            ("at Mon, 30 Nov 2026 04:54:13 GMT", "at Tue, 01 Dec 2026 04:54:13 GMT"),
            ("at 2026-01-02T03:04:05Z", "at 2026-01-02T03:04:05.678+02:00"),
            (
                "(421, b'4.7.0 Try again later. d2e1a72fcca58xyzq.44 - gsmtp')",
                "(421, b'4.7.0 Try again later. abcdefghijklmnopq.7 - gsmtp')",
            ),
            (
                "{'a@b.test': (550, b'5.1.1 <a@b.test>: User unknown')}",
                "{'c@d.test': (550, b'5.1.1 <c@d.test>: User unknown')}",
            ),
        ],
    )
    def test_what_does_not_count(self, one, other) -> None:
        """Numbers, quoted texts, addresses, URLs, ids of all kinds, paths, dates, tails."""
        assert says(one) == says(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("can't pay for Ada's order", "can't ship Ada's order"),
            ("can’t pay for Ada’s order", "can’t ship Ada’s order"),  # noqa: RUF001
            ("it may fail", "it must fail"),
            ("1 of it, 2 of that", "1 of it"),
            ("UnprocessableEntityError", "ServiceUnavailableError"),
            ("the warehouse::stock is empty", "the warehouse::shelf is empty"),
            ("(421, b'4.7.0 Try again later')", "(550, b'4.7.0 Try again later')"),
            ("(550, b'5.1.1 User unknown')", "(550, b'5.7.1 Relaying denied')"),
            ("{'a@b.test': (550, b'No')}", "{'a@b.test': (450, b'No')}"),
            ("(1213, 'Deadlock found')", "(2006, 'Server has gone away')"),
        ],
    )
    def test_what_counts(self, one, other) -> None:
        """Words, also those between apostrophes; what a server answers, and its status."""
        assert says(one) != says(other)
        assert says(f"{one} (1)") == says(f"{one} (23)")

    @pytest.mark.parametrize(
        "kind",
        [
            lambda pick: f"cus_{pick(string.ascii_letters + string.digits, 14)}",
            lambda pick: pick("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
            lambda pick: pick(string.ascii_letters + string.digits + "_-", 21),
            lambda pick: pick(string.ascii_lowercase + string.digits, 17),
            lambda pick: base64.b64encode(pick(string.printable, 12).encode()).decode(),
        ],
        ids=["stripe", "ulid", "nanoid", "gmail", "base64"],
    )
    def test_random_ids(self, kind) -> None:
        """Of a thousand ids, of which some have no digit, nearly all are known for ids."""
        chance = random.Random(7)
        ids = [kind(lambda of, count: "".join(chance.choices(of, k=count))) for _ in range(1000)]
        assert len({says(f"no {each} here") for each in ids}) <= 5

    @pytest.mark.parametrize(
        "piece",
        ["a", "a-", "_", "1:", "f:", "a/", "\\", "'", "b'\\", "(421, b'", "+", "a+", "aB", "“",
         "mon ", "a1@", "bc", "a.", "=", "x1"],
    )  # fmt: skip
    def test_hostile_messages(self, piece) -> None:
        """No message takes long to compare."""
        began = time.thread_time()
        for _ in range(10):
            shape_of(piece * 10_000)
        assert time.thread_time() - began < 2

    def test_secrets_do_not_count(self) -> None:
        """What is masked is the same for all."""
        one = failure_of(ValueError("for hunter"), mask_for([], {"token": "hunter"}, None))
        other = failure_of(ValueError("for prey"), mask_for([], {"token": "prey"}, None))
        assert one.fingerprint == other.fingerprint

    def test_members_in_any_order(self, load) -> None:
        """The members of a group count, their order does not."""
        site = load()
        one, two = raised(site["receive"], 1), raised(site["receive_other"], 1)

        def of(*members):
            return failure_of(ExceptionGroup("several", members), OPEN).fingerprint

        assert of(one, two) == of(two, one)
        assert of(one, two) != of(one, one)

    def test_of_a_death(self) -> None:
        """A death of a worker has no error; it is one failure for each receiver."""
        assert death_of("shop.receive") == death_of("shop.receive")
        assert death_of("shop.receive").fingerprint != death_of("shop.other").fingerprint
        assert death_of("shop.receive").message == "Its worker died."


class TestText:
    def test_whole(self, load) -> None:
        """Import path, message, the site's own frames with their source, the traceback."""
        site = load()
        failure = failed(site["receive"], 7)

        path = site["receive"].__code__.co_filename
        own = (
            f'  File "{path}", line 3, in receive\n    find(number)\n'
            f'  File "{path}", line 6, in find\n    raise LookupError('
            "f\"no order {number} of 'Ada Lovelace' for a{number}@b.test\")\n"
        )
        message = "no order 7 of 'Ada Lovelace' for a7@b.test"
        assert failure.exception == "LookupError"
        assert failure.message == message
        assert failure.own_frames.endswith(own)
        assert failure.traceback.startswith("Traceback (most recent call last):\n  File ")
        assert failure.traceback.endswith(f"{own}LookupError: {message}\n")

    def test_own_frames(self, load) -> None:
        """No frame of the standard library, of installed packages or of this package."""

        def fail():
            import json

            from async_signals import codec

            json.loads("[1]", object_hook=1, parse_int=lambda x: codec.decode({"$": "no"}))

        failure = failed(fail)
        assert failure.exception == "async_signals.exceptions.DecodeError"
        assert "in fail" in failure.own_frames
        assert "in <lambda>" in failure.own_frames
        assert "json" not in failure.own_frames.replace("json.loads", "")
        assert "async_signals/" not in failure.own_frames
        assert "json/__init__.py" in failure.traceback
        assert "async_signals/codec" in failure.traceback

    def test_installed_packages(self) -> None:
        """Packages that are installed are not the site's code, whatever they are called."""

        def fail():
            pytest.importorskip("no.such.module", exc_type=LookupError)

        failure = failed(fail)
        assert "in fail" in failure.own_frames
        assert "_pytest" not in failure.own_frames
        assert "_pytest" in failure.traceback

    def test_without_own_frames(self) -> None:
        """An error that was never in the site's code still has a place."""
        failure = failure_of(DecodeError("no"), OPEN)
        assert failure.own_frames == ""
        assert failure.traceback == "async_signals.exceptions.DecodeError: no\n"

    def test_causes(self) -> None:
        """Causes and contexts come first, with Python's words; suppressed ones do not."""

        def fail(how):
            try:
                raise KeyError("first")
            except KeyError as exc:
                if how == "from":
                    raise ValueError("second") from exc
                if how == "none":
                    raise ValueError("second") from None
                raise ValueError("second")  # noqa: B904

        caused = failed(fail, "from").traceback
        assert caused.index("KeyError: 'first'\n\nThe above exception was the direct cause") > 0
        assert caused.endswith("ValueError: second\n")
        assert "During handling of the above exception" in failed(fail, "").traceback
        assert "first" not in failed(fail, "none").traceback.replace('KeyError("first")', "")

    def test_groups(self) -> None:
        """Each member is written, with its own traceback, also those of groups in groups."""
        group = ExceptionGroup(
            "outer", [ValueError("one"), ExceptionGroup("inner", [raised(int, "x")])]
        )
        text = failure_of(group, OPEN).traceback
        assert (
            "ExceptionGroup: outer (2 sub-exceptions)\n  -- 1 of 2 --\n  ValueError: one\n" in text
        )
        assert "    -- 1 of 1 --\n    Traceback (most recent call last):\n" in text
        assert "ValueError: invalid literal for int()" in text

    def test_notes(self) -> None:
        """Notes are a part of the traceback, masked; what only looks like notes is not."""
        exc = ValueError("x")
        exc.add_note("password=abc123 of Ada")
        assert failure_of(exc, mask_for([], None, exc)).traceback == (
            "ValueError: x\npassword=•••• of Ada\n"
        )
        exc.__notes__ = 1  # type: ignore[assignment]
        assert failure_of(exc, OPEN).traceback == "ValueError: x\n"


class TestBounds:
    def test_message(self) -> None:
        """A long message is cut, in the traceback too."""
        failure = failure_of(ValueError("x" * 10**7), OPEN)
        assert failure.message == "x" * 1999 + "…"
        assert len(failure.traceback) < 2100

    def test_no_part_of_a_secret_at_the_cut(self) -> None:
        """A secret that stands where a very long message is cut does not show its beginning."""
        secret = "s3cr3t-" * 20
        exc = ValueError("!" + secret * 1000)
        assert "s3cr" not in failure_of(exc, Mask([], [secret])).message

    def test_recursion(self) -> None:
        """Endless recursion: the traceback is short, the same from any depth, and quick."""

        def ping(n):
            pong(n + 1)

        def pong(n):
            ping(n + 1)

        def deeper(levels):
            return deeper(levels - 1) if levels else ping(0)

        began = time.thread_time()
        failure = failed(ping, 0)
        assert time.thread_time() - began < 2
        assert failure.exception == "RecursionError"
        assert len(failure.traceback) <= 20_000
        assert len(failure.own_frames) <= 20_000
        assert "characters are left out here" in failure.traceback
        assert failure.traceback.rstrip().splitlines()[-1].startswith("RecursionError: maximum")
        assert failure.fingerprint == failed(ping, 1).fingerprint

    def test_repeated_frames(self) -> None:
        """A frame that repeats is counted."""

        def again(n):
            return again(n + 1)

        assert "[Previous line repeated" in failed(again, 0).traceback

    def test_many_errors(self) -> None:
        """A long chain and a wide group are cut; a circle ends."""
        exc: BaseException = ValueError(0)
        for number in range(1, 500):
            new = ValueError(number)
            new.__cause__, exc = exc, new
        assert failure_of(exc, OPEN).traceback.count("ValueError") <= 60
        group = ExceptionGroup("wide", [ValueError(n) for n in range(5000)])
        assert failure_of(group, OPEN).traceback.count("ValueError") <= 60
        first, second = ValueError(1), ValueError(2)
        first.__cause__, second.__cause__ = second, first
        assert failure_of(first, OPEN).traceback.count("ValueError") == 2


class TestHostileErrors:
    def test_str_raises(self) -> None:
        """An error that cannot say what it is."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        failure = failure_of(Mute(), OPEN)
        name = f"{__name__}.TestHostileErrors.test_str_raises.<locals>.Mute"
        assert failure.message == f"<unprintable {name}>"
        assert failure.traceback == f"{name}: <unprintable {name}>\n"

    def test_str_is_none(self) -> None:
        """``__str__`` returns what is no text, or a text of a hostile type."""

        class Text(str):
            __slots__ = ()

            def __len__(self) -> int:
                raise RuntimeError

            __getitem__ = strip = __len__  # type: ignore[assignment]

        for said, message in ((1, "<unprintable"), (Text("fine"), "fine")):
            kind = type("Odd", (Exception,), {"__str__": lambda self, said=said: said})
            assert failure_of(kind(), OPEN).message.startswith(message)

    def test_everything_raises(self) -> None:
        """No attribute of an error has to work."""

        def refuse(self):
            raise RuntimeError

        names = ("__cause__", "__context__", "__traceback__", "__notes__", "args", "exceptions")
        broken = {name: property(refuse) for name in names}
        kind = type("Broken", (ExceptionGroup,), {**broken, "__module__": None})
        failure = failure_of(kind("x", [ValueError("member")]), OPEN)
        assert failure.exception == "Broken"
        assert "ValueError: member" in failure.traceback

    def test_unstorable(self) -> None:
        """What no database takes is left out."""
        assert failure_of(ValueError("a\x00b\ud800c"), OPEN).message == "abc"


class TestDatabaseErrors:
    @pytest.mark.django_db(databases="__all__", transaction=True)
    def test_duplicate(self, alias) -> None:
        """The row that an error is about is not quoted; that it is a duplicate is."""

        def save():
            with transaction.atomic(using=alias):
                Member(email="ada@x.test").save(using=alias)
                Member(email="ada@x.test").save(using=alias)

        failure = failed(save)
        assert failure.exception == "django.db.utils.IntegrityError"
        for field in dataclasses.astuple(failure):
            assert "ada@x.test" not in field.replace('Member(email="ada@x.test").save', "")
        assert "uplicate" in failure.message or "UNIQUE" in failure.message

    @pytest.mark.django_db(databases=["default", "postgresql"])
    def test_literals_of_a_query(self) -> None:
        """PostgreSQL points at the place in a query, which holds data."""
        if "postgresql" not in connections:
            pytest.skip("no postgresql")

        def query():
            with transaction.atomic(using="postgresql"):
                connections["postgresql"].cursor().execute("SELECT %s::int, 'ada'", ["lovelace"])

        failure = failed(query)
        assert "invalid input syntax for type integer" in failure.message
        assert "lovelace" not in failure.message + failure.traceback.replace('["lovelace"]', "")

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            (
                'duplicate key value violates unique constraint "c"\n'
                "DETAIL:  Key (email)=(a@b.test) already exists.\nHINT:  Look.\n",
                'duplicate key value violates unique constraint "c"\n\nHINT:  Look.',
            ),
            ("Duplicate entry 'it's' for key 'email'", "Duplicate entry •••• for key 'email'"),
            ("Incorrect value: 'x' for column 'n'", "Incorrect value: •••• for column 'n'"),
            (
                "Key (a)=(it (b) is c) is not present in table",
                "Key •••• is not present in table",
            ),
            (
                'invalid input for type integer: "a\nb"\nx',
                "invalid input for type integer: ••••\nx",
            ),
            ("Duplicate entry 'a", "Duplicate entry 'a"),
            # A value that looks like what stands before, or behind, another one.
            ('Key (a) is bad: "x) is secret"', "Key ••••"),
            (
                'invalid input for type integer: "secret Key (x"\nHINT:  The value (of a) is bad.',
                "invalid input for type integer: •••• is bad.",
            ),
        ],
    )
    def test_messages(self, message, expected) -> None:
        """Also where the site's own error quotes the database's."""
        assert failure_of(IntegrityError(message), OPEN).message == expected
        own = ValueError(f"cannot save: {message}")
        own.__cause__ = IntegrityError(message)
        assert failure_of(own, OPEN).message == f"cannot save: {expected}"

    @pytest.mark.parametrize(
        "text", ["Duplicate entry '{}' for key", "Key (a)=({}) already exists", 'type x: "{}"']
    )
    def test_a_value_that_is_cut(self, text) -> None:
        """Where a value is longer than what is read of a message, its beginning is not shown."""
        assert "abc" not in failure_of(IntegrityError(text.format("abc " * 50_000)), OPEN).message

    @pytest.mark.parametrize(
        "piece",
        ["Key (", "Key (a)=(b", "Duplicate entry '", "value: '", ': "', '{"sku": "A1"}, ',
         ") is Key (", "' for key Duplicate entry '", "LINE 1: x\n", "LINE 1: x\nHINT: "],
    )  # fmt: skip
    def test_hostile_messages(self, piece) -> None:
        """A long message of a database, or beside one, takes no more than linear time."""
        exc = IntegrityError(piece * (200_000 // len(piece)))
        began = time.thread_time()
        failure_of(exc, OPEN)
        assert time.thread_time() - began < 1

    def test_others(self) -> None:
        """An error that has nothing to do with a database says what it says."""
        assert failure_of(ValueError("a\nDETAIL: b"), OPEN).message == "a\nDETAIL: b"


class TestSecrets:
    def test_nowhere(self) -> None:
        """A secret of the arguments, a field, a variable or the error is in no field of it."""
        kwargs = {
            "token": "s3cr3t-argument",
            "instance": Member(email="a@b.test", password="s3cr3t-field"),
            "data": {"deep": [{"api_key": "s3cr3t-item"}]},
            "article": Article(title="s3cr3t-option"),
        }

        def receive(token, instance, data, article):
            secret = "s3cr3t-" + "variable"
            everything = (
                f"{token} {instance.password!r} {data} {article.title} {secret} "
                "password=s3cr3t-message"
            )
            try:
                raise KeyError(everything)
            except KeyError as exc:
                error = ExceptionGroup(everything, [ValueError(everything)])
                error.add_note(everything)
                raise error from exc

        exc = raised(receive, **kwargs)
        failure = failure_of(exc, mask_for(["title"], kwargs, exc))
        for field in dataclasses.astuple(failure):
            assert "s3cr3t-" not in field.replace('"s3cr3t-" + "variable"', "").replace(
                '"password=s3cr3t-message"', ""
            )
        assert "•••• '••••'" in failure.message

    def test_no_variables(self) -> None:
        """What is only in a variable is not recorded at all."""

        def fail():
            colour = "aqua" + "marine"
            raise ValueError(len(colour))

        for field in dataclasses.astuple(failed(fail)):
            assert "aquamarine" not in field

    def test_in_source(self, load) -> None:
        """A literal in a line of code that is given a secret name is masked; the code is not."""
        site = load("def receive(key):\n    check(password='abc123', token=key)\n")
        failure = failed(site["receive"], 1, mask=mask_for([], None, None))
        assert "check(password=••••, token=key)" in failure.own_frames


def test_nothing_is_left(load) -> None:
    """The error and its frames are not kept alive by what was recorded of them."""
    exc = raised(load()["receive"], 1)
    before = sys.getrefcount(exc)
    failure_of(exc, mask_for([], {}, exc))
    assert sys.getrefcount(exc) == before
