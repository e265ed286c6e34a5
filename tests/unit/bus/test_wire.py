"""What the wire may carry, read without a broker."""

import asyncio
from collections.abc import Coroutine

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.connection import Connection, StreamRefusal, _parse_ack
from bus.errors import PublishDenied, PublishUnconfirmed
from bus.wire import WireClient, _block, _plain_headers, _repeats_an_attribute
from tests.sending import new_sender, submitted

CLIENT = WireClient()


async def headers_of(block: bytes | None) -> dict[str, str] | None:
    return await CLIENT._process_headers(block)


async def test_headers_are_read() -> None:
    assert await headers_of(b"NATS/1.0\r\nce-id: 1\r\nother:x\r\n\r\n") == {
        "ce-id": "1",
        "other": "x",
    }
    assert await headers_of(None) is None


async def test_a_status_of_the_broker_is_read() -> None:
    found = await headers_of(b"NATS/1.0 404 No Messages\r\n\r\n")
    assert found is not None
    assert found["Status"] == "404"


async def test_a_status_in_a_stored_message_is_dropped() -> None:
    """A direct get returns the sender's headers, and says so in a header of its own."""
    found = await headers_of(b"NATS/1.0 503\r\nStatus: 503\r\nNats-Stream: EVENTS\r\n\r\n")
    assert found is not None
    assert "Status" not in found
    assert found["Nats-Stream"] == "EVENTS"


@pytest.mark.parametrize("again", [b"ce-id", b"CE-ID", b" ce-id ", b"Ce-Id\t"])
async def test_an_attribute_there_twice_leaves_no_headers(again: bytes) -> None:
    assert await headers_of(b"NATS/1.0\r\nce-id: 1\r\n" + again + b": 2\r\n\r\n") is None


async def test_other_headers_may_be_there_twice() -> None:
    assert await headers_of(b"NATS/1.0\r\na: 1\r\na: 2\r\nce-id: 1\r\n\r\n") == {
        "a": "2",
        "ce-id": "1",
    }


def _message(subject: bytes) -> Msg:
    return CLIENT._build_message(1, subject, b"", b"", None)


@given(st.binary(min_size=1, max_size=60))
def test_any_subject_becomes_text(subject: bytes) -> None:
    text = _message(subject).subject
    assert text.encode()
    try:
        assert text == subject.decode()
    except UnicodeDecodeError:
        assert "\\x" in text


@given(st.binary(max_size=60) | st.binary(max_size=60).map(b"NATS/1.0".__add__))
@example(b"N")
@example(b"NATS/1.0 \xff\xff\xff\r\n\r\n")
def test_any_block_of_bytes_is_survived(block: bytes) -> None:
    found = drive(CLIENT._process_headers(block))
    assert all(name.isascii() for name in found or {})


NAMES = st.text(st.sampled_from("aC-e:id \t"), max_size=6)
VALUES = st.text(st.sampled_from("a1 :%\x7f\u00e9"), max_size=6)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
@example([("Status", "503"), ("Nats-Stream", "EVENTS")])
@example([("ce-id", "1"), ("CE-ID", "2")])
def test_what_is_read_the_short_way_is_what_the_long_way_reads(
    headers: list[tuple[str, str]],
) -> None:
    short = _plain_headers(_block(headers))
    if short is not None:
        assert not _repeats_an_attribute(_block(headers))
        assert drive(Client._process_headers(CLIENT, _block(headers))) == short


async def test_the_headers_of_an_event_are_read_the_short_way() -> None:
    event = new_sender().sign(submitted("r1"))
    assert _plain_headers(_block(event.headers.items())) == event.headers


async def test_a_taker_that_fails_does_not_end_the_reading() -> None:
    client, errors, taken = WireClient(), list[Exception](), list[Msg]()

    def take(message: Msg) -> None:
        taken.append(message)
        raise ValueError("not a message of a stream")

    async def note(error: Exception) -> None:
        errors.append(error)

    client._error_cb = note
    client._subs[1] = Subscription(client, id=1, subject="inbox")
    client._takers[1] = take
    await client._process_msg(1, b"inbox", b"", b"data", b"NATS/1.0\r\nce-id: 1\r\n\r\n")
    client._remove_sub(1)
    await client._process_msg(1, b"inbox", b"", b"nobody listens", b"")
    assert [message.data for message in taken] == [b"data"]
    assert [str(error) for error in errors] == ["not a message of a stream"]


def drive(coroutine: Coroutine[object, object, dict[str, str] | None]) -> dict[str, str] | None:
    """Run what never waits, inside the loop that the test session owns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: dict[str, str] | None = done.value
        return result
    raise AssertionError("it waited")


async def test_a_refusal_by_the_broker_reaches_the_publish_in_any_case() -> None:
    """nats-py gives the broker's errors in lower case."""

    class Silent(WireClient):
        async def publish(self, *_: object, **__: object) -> None:
            """Sends nothing: the answer comes by the error callback."""

    sender = new_sender()
    connection = Connection("nats://127.0.0.1:1", sender.key, sender.credential, "_INBOX_x")
    connection.client = Silent()
    subject = "evt.00.r1.identity.issued.UABC"
    publish = asyncio.ensure_future(connection.publish(subject, b"", {}, timeout_s=5))
    await asyncio.sleep(0)  # lets it begin to wait
    connection.note_error(
        Exception(f'nats: permissions violation for publish to "{subject.lower()}"')
    )
    with pytest.raises(PublishDenied):
        await publish


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"seq": "x"}', b"\xff"])
def test_an_answer_that_cannot_be_read_leaves_the_outcome_open(data: bytes) -> None:
    with pytest.raises(PublishUnconfirmed):
        _parse_ack(Msg(_client=CLIENT, data=data))


def test_an_answer_of_the_stream_is_read() -> None:
    ack = _parse_ack(Msg(_client=CLIENT, data=b'{"stream":"EVENTS","seq":7,"duplicate":true}'))
    assert (ack.sequence, ack.duplicate) == (7, True)
    with pytest.raises(StreamRefusal, match=r"wrong last sequence \(10071\)"):
        _parse_ack(
            Msg(
                _client=CLIENT,
                data=b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}',
            )
        )
