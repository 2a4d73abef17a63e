"""The wire form: versioned, signed, and refused where it is anything else."""

from __future__ import annotations

import json

import pytest
from django.dispatch import Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from async_signals import EnvelopeError, FutureEnvelopeError, ReceiverNotFoundError, connect
from async_signals.executor import execute
from async_signals.ids import id_after, new_id
from async_signals.wire.envelope import as_sent, dump, pack, seal, seal_alike, unbundled, unpack
from async_signals.wire.signing import sign


def signed(message) -> str:
    """Sign *message* as a sender of another release would."""
    return sign(json.dumps(message))


class TestRoundTrip:
    def test_one_and_several(self, envelope) -> None:
        """One message carries one envelope or more, each as it was."""
        assert unpack(pack([envelope])) == [envelope]
        assert unpack(pack([envelope] * 3)) == [envelope] * 3

    def test_the_form_of_version_1(self, envelope) -> None:
        """The form that workers of this release and the next will have to read."""
        _, _, body = pack([envelope]).partition(":")

        assert json.loads(body) == {
            "v": 1,
            "receiver": "shop.receive",
            "deliveries": [
                {
                    "id": "0199-1",
                    "event": "0199-0",
                    "signal": "shop.signals.done",
                    "sent_at": "2026-01-02T03:04:05.000678+00:00",
                    "sender": None,
                    "kwargs": {"number": 1},
                }
            ],
        }

    def test_what_all_have_in_common_stands_once(self, envelope) -> None:
        """What differs stands with each of them."""
        other = envelope._replace(id="0199-2", sender="somebody")

        body = json.loads(pack([envelope, other._replace(sender=None)]).partition(":")[2])
        assert (body["signal"], body["sender"]) == ("shop.signals.done", None)
        assert body["deliveries"][0].keys() == {"id", "event", "sent_at", "kwargs"}

        body = json.loads(pack([envelope, other]).partition(":")[2])
        assert body["signal"] == "shop.signals.done"
        assert [each["sender"] for each in body["deliveries"]] == [None, "somebody"]
        assert unpack(pack([envelope, other])) == [envelope, other]


#: Values that are equal and not the same, and texts that are the same object now and then.
VALUES = st.sampled_from([None, True, False, 1, 0, 1.0, "text", "x" * 1000, ["a"], {"n": 1}])
MOMENTS = st.integers(0, 4_000_000_000_000_000)


def sealed(first, rows) -> str:
    """Seal *rows*: the id of its event, when it was sent, sender and kwargs of each."""
    events, sent, senders, arguments = zip(*rows, strict=True)
    first = first._replace(sent=as_sent(sent[0]), sender=senders[0], kwargs=arguments[0])
    text, length = seal_alike(
        first,
        alone=len(seal([first])),
        events=events,
        sent=sent,
        senders=senders,
        arguments=arguments,
    )
    if first.event_id == events[0]:
        apart = (
            dump(first._replace(sent=as_sent(at), sender=sender, kwargs=kwargs))
            for _, at, sender, kwargs in rows
        )
        assert sum(map(len, apart)) <= length
    return text


class TestAlike:
    """A line of a bundle: many deliveries, of which what is equal is written once."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_each_is_read_as_it_was(self, envelope, data) -> None:
        """Whatever some have in common: 1 is not True, and what one lacks it does not get."""
        names = data.draw(st.lists(st.sampled_from("abc"), unique=True))
        kwargs = st.fixed_dictionaries(dict.fromkeys(names, VALUES))
        row = st.tuples(st.sampled_from(["", "0199-5"]), MOMENTS, VALUES, kwargs)
        cause, chain = data.draw(st.sampled_from([(None, ()), ("0199-9", ("shop.first",))]))
        first = envelope._replace(id="", event_id=new_id(), cause=cause, chain=chain)
        rows = [(first.event_id, *row[1:]) for row in [data.draw(row)]] + data.draw(
            st.lists(row, max_size=4)
        )
        text = sealed(first, rows)
        read, base = unbundled(text, len(rows)), json.loads(text)["base"]

        expected = [
            first._replace(
                event_id=event or id_after(base, n),
                sent=as_sent(at),
                sender=sender,
                kwargs=own,
            )
            for n, (event, at, sender, own) in enumerate(rows)
        ]
        got = [each._replace(id="") for each in read]
        assert got == expected
        assert json.dumps(got, sort_keys=True) == json.dumps(expected, sort_keys=True)

    def test_what_is_the_same_is_written_once(self, envelope) -> None:
        """Short values only: who reads it makes hardly more of it than is there."""
        same = {"a": True, "b": None, "c": "x" * 101}
        body = json.loads(sealed(envelope, [("", n, None, {**same, "n": n}) for n in range(3)]))

        assert body["shared"] == {"a": True, "b": None}
        assert body["kwargs"] == {"c": ["x" * 101] * 3, "n": [0, 1, 2]}
        assert (body["sent"], body["sender"], "senders" in body) == ([0, 1, 2], None, False)
        assert body["v"] == 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"kwargs": []},
            {"kwargs": None},
            {"kwargs": {"n": "xy"}},
            {"kwargs": {"n": [1]}},
            {"kwargs": {"n": {"0": 1, "1": 2}}},
            {"shared": []},
            {"shared": None},
            {"shared": "x"},
            {"sent": []},
            {"sent": [True, 1]},
            {"sent": [1, 10**30]},
            {"sent": "12"},
            {"events": [""]},
            {"base": "0199-5"},
            {"base": None},
            {"events": [None, ""]},
            {"senders": ["somebody"]},
            {"payload": 0},
        ],
    )
    def test_what_is_no_such_line(self, envelope, wrong) -> None:
        """It is refused, as any message that is none."""
        rows = [(event, 5, None, {"n": 1}) for event in (new_id(), "")]
        body = json.loads(sealed(envelope._replace(id=""), rows))

        assert len(unbundled(json.dumps(body | {"sent": [5, 6]}), 2)) == 2
        with pytest.raises(EnvelopeError, match="cannot read the stored envelope"):
            unbundled(json.dumps(body | wrong), 2)

    def test_it_does_not_travel(self, envelope) -> None:
        """Only the ledger has such: what little of it stands for much is nobody else's to write."""
        with pytest.raises(FutureEnvelopeError):
            unpack(sign(sealed(envelope, [("", 5, None, {"number": 1})])))


class TestRefused:
    @pytest.mark.parametrize("version", [None, 0, 2, "1", [1], True, 1.0])
    def test_other_versions(self, version, envelope) -> None:
        """A release that this one cannot read: the order of deployment would have avoided it."""
        with pytest.raises(EnvelopeError) as caught:
            unpack(signed(json.loads(pack([envelope]).partition(":")[2]) | {"v": version}))
        assert "Deploy workers before senders." in str(caught.value)

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            "x",
            {},
            {"v": 1},
            {"v": 1, "receiver": "r"},
            {"v": 1, "receiver": "r", "deliveries": 3},
            {"v": 1, "receiver": "r", "deliveries": []},
            {"v": 1, "receiver": "r", "deliveries": {}},
            {"v": 1, "receiver": "r", "deliveries": "epoch"},
            {"v": 1, "receiver": "r", "deliveries": ["epoch"]},
            {"v": 1, "receiver": "r", "deliveries": [["epoch"]]},
            {"v": 1, "receiver": "r", "deliveries": [{}]},
            {
                "v": 1,
                "receiver": "r",
                "deliveries": [
                    {
                        "id": 1,
                        "event": 1,
                        "signal": None,
                        "sent_at": "soon",
                        "sender": 1,
                        "kwargs": {},
                    }
                ],
            },
        ],
        ids=str,
    )
    def test_malformed(self, message) -> None:
        """Signed, and still no envelope."""
        with pytest.raises(EnvelopeError, match="cannot read"):
            unpack(signed(message))

    @pytest.mark.parametrize(
        "change",
        [
            {"id": 1},
            {"id": None},
            {"event": ["x"]},
            {"signal": 5},
            {"signal": ["a"]},
            {"signal": {}},
            {"sent_at": "2026-01-02T03:04:05"},
            {"sent_at": 5},
            {"kwargs": None},
            {"kwargs": [1]},
            {"kwargs": "x"},
            {"kwargs": {"$": "int", "v": "0x1"}},
            {"kwargs": {"$": "dict", "v": [[1, 2]]}},
            {"kwargs": {"sender": 1}},
            {"kwargs": {"signal": 1}},
            {"payload": 0},
            {"payload": "1"},
        ],
        ids=str,
    )
    def test_what_no_receiver_can_be_called_with(self, change, envelope) -> None:
        """Of the right shape, and one thing in it of the wrong type."""
        message = json.loads(pack([envelope]).partition(":")[2])
        message["deliveries"][0].update(change)

        with pytest.raises(EnvelopeError, match="cannot read the message: expected an envelope"):
            unpack(signed(message))

    @pytest.mark.parametrize("receiver", [None, 1, ["x"], {}], ids=str)
    def test_a_receiver_that_is_no_name(self, receiver, envelope) -> None:
        """The same holds for the name above all deliveries."""
        message = json.loads(pack([envelope]).partition(":")[2])

        with pytest.raises(EnvelopeError, match="cannot read the message"):
            unpack(signed({**message, "receiver": receiver}))

    def test_no_text(self) -> None:
        """A task that is called by hand gets told what to do instead."""
        with pytest.raises(EnvelopeError) as caught:
            unpack({"instance": 1})
        assert str(caught.value) == (
            "cannot read the message: expected a signed text, got: dict. Only async_signals "
            "publishes to the task of a receiver; call the function itself, or send its signal."
        )

    def test_for_another_receiver(self, envelope) -> None:
        """A message cannot be replayed to a receiver that it was not made for."""

        def receive(**kwargs) -> None:
            raise AssertionError("never called")

        signal = Signal()
        connect(signal, receive, name="shop.other")

        with pytest.raises(EnvelopeError) as caught:
            execute(pack([envelope]), name="shop.other")
        assert str(caught.value) == (
            "cannot run shop.other: expected a message for this receiver, got: one for "
            "shop.receive. A message fits no other receiver than its own; name what was renamed "
            "with @async_receiver(..., aliases=[old name])."
        )

    def test_for_nobody(self, envelope) -> None:
        """A receiver that this process does not know."""
        with pytest.raises(ReceiverNotFoundError) as caught:
            execute(pack([envelope]), name="shop.nobody")
        assert str(caught.value) == (
            "cannot find receiver 'shop.nobody': expected a receiver that this process has "
            "imported, got: none. Import its module in AppConfig.ready(), deploy workers before "
            "senders, and name what was renamed with @async_receiver(..., aliases=[old name])."
        )


class TestAliases:
    @pytest.mark.parametrize("called", [0, 1], ids=["old", "new"])
    def test_an_earlier_name(self, called, envelope) -> None:
        """A message for the old name is run, by the task of the old name or of the new one."""
        got = []

        def receive(number, **kwargs) -> None:
            got.append(number)

        signal = Signal()
        old, new = names = [f"shop.{word}.{called}" for word in ("old", "new")]
        connect(signal, receive, name=new, aliases=[old])
        wire = pack([envelope._replace(receiver=old, signal=None)])

        execute(wire, name=names[called])
        assert got == [1]


class TestSeveral:
    def test_each_has_its_own_outcome(self, envelope) -> None:
        """One delivery of a message that fails does not keep the others from running."""
        got = []

        def receive(number, **kwargs) -> None:
            got.append(number)
            if number % 2:
                raise LookupError(number)

        signal = Signal()
        connect(signal, receive, name="shop.receive")
        envelopes = [envelope._replace(signal=None, kwargs={"number": n}) for n in range(4)]

        with pytest.raises(ExceptionGroup) as caught:
            execute(pack(envelopes), name="shop.receive")
        assert got == [0, 1, 2, 3]
        assert [exc.args for exc in caught.value.exceptions] == [(1,), (3,)]
