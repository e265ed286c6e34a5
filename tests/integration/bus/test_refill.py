"""A stream made anew, message by message, on a real broker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from bus.connection import Connection
from bus.errors import RefillFailed
from bus.refill import Message, Refill, is_half_filled
from bus.scan import removed_sequences, stored, stream_state
from tests.auditing import administrator
from tests.broker import Broker


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Connection]:
    broker = Broker(tmp_path)
    await broker.start()
    await broker.provision()
    async with administrator(broker) as connection:
        yield connection
    await broker.provision()  # what is there can be brought back to its configuration
    await broker.stop()


def message(sequence: int, *headers: tuple[str, str], data: bytes = b"x") -> Message:
    return Message(sequence=sequence, subject="evt.00.r.run.failed", headers=headers, data=data)


async def refilled(keeper: Connection, messages: Sequence[Message]) -> list[tuple[int, bytes]]:
    refill = Refill(keeper)
    await refill.begin()
    assert await is_half_filled(keeper)
    for each in messages:
        await refill.put(each)
    await refill.end()
    async with aclosing(stored(keeper, after=0, until=1 << 40)) as there:
        return [(received.stream_sequence, _data(received)) async for received in there]


def _data(received: object) -> bytes:
    data = getattr(received, "data", None)
    assert isinstance(data, bytes)  # none of these is an event
    return data


async def test_gaps_stay_gaps(keeper: Connection) -> None:
    wanted = [3, 4, 700, 1_500]
    messages = [message(sequence, data=b"%d" % sequence) for sequence in wanted]
    assert await refilled(keeper, messages) == [(n, b"%d" % n) for n in wanted]
    state = await stream_state(keeper)
    assert state is not None
    assert (state.first_sequence, state.last_sequence) == (3, 1_500)
    gone = set(await removed_sequences(keeper)) | {1, 2}
    assert gone == set(range(1, 1_501)) - set(wanted)


async def test_an_id_that_comes_again_is_stored_again(keeper: Connection) -> None:
    ids = ["a", "b", "a", "a", "c"]
    messages = [message(n, ("Nats-Msg-Id", each)) for n, each in enumerate(ids, start=1)]
    assert [n for n, _ in await refilled(keeper, messages)] == [1, 2, 3, 4, 5]


async def test_what_a_hostile_sender_wrote_is_put_back_without_being_obeyed(
    keeper: Connection,
) -> None:
    messages = [
        message(1),
        message(2, ("Nats-Expected-Last-Sequence", "77"), ("Nats-Msg-Id", "a")),
        message(3, ("Nats-Rollup", "all")),
        message(4, ("Nats-Expected-Stream", "OTHER"), ("odd name", "\udcff")),
        message(5, data=b""),
        message(6),
    ]
    assert [n for n, _ in await refilled(keeper, messages)] == [1, 2, 3, 4, 5, 6]


async def test_a_taken_place_is_refused(keeper: Connection) -> None:
    refill = Refill(keeper)
    await refill.begin()
    await refill.put(message(2))
    with pytest.raises(RefillFailed, match="sequence 2 is taken"):
        await refill.put(message(2))


async def test_somebody_else_who_publishes_is_noticed(keeper: Connection) -> None:
    refill = Refill(keeper)
    await refill.begin()
    await keeper.publish("evt.00.r.run.failed", b"", {}, timeout_s=5)
    await refill.put(message(1))
    with pytest.raises(RefillFailed, match="not stored in its place"):
        await refill.end()
