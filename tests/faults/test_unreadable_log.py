"""The broker cannot read what it stored and still counts it: nobody waits for it."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from actors.coordinator import RETRY_S
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import StepAssigned
from bus.reader import READ_BATCH
from bus.subjects import ALL_EVENTS, run_filter
from tests.broker import Broker
from tests.faults.damage import flip_a_bit
from tests.integration.actors.test_coordinator import coordinating, until
from tests.integration.actors.test_coordinator import submitted as asked
from tests.sending import submitted

READ_S = 30


@pytest.fixture
def run() -> str:
    return f"r{uuid4().hex[:20]}"


async def lose(broker: Broker, events: Sequence[StoredEvent]) -> None:
    await broker.stop()
    for event in events:
        flip_a_bit(broker, event.event.headers["swarm-signature"].encode())
    await broker.start()


async def read(log: EventLog, subjects: str, *, after: int = 0) -> list[int]:
    async with asyncio.timeout(READ_S):
        return [each.stream_sequence async for each in log.read(subjects, after=after)]


@pytest.mark.parametrize("lost", [[0], [2], [4], [3, 4], [0, 1, 2, 3, 4]])
async def test_a_read_ends_though_events_cannot_be_read(
    broker: Broker, run: str, lost: list[int]
) -> None:
    async with broker.joined("gateway") as gateway:
        events = [await gateway.append(submitted(run, str(number))) for number in range(5)]
        await lose(broker, [events[number] for number in lost])
    left = [each.stream_sequence for n, each in enumerate(events) if n not in lost]
    async with broker.joined("coordinator") as reader:
        for _ in range(2):
            assert await read(reader, run_filter(run)) == left
        assert await read(reader, run_filter(run), after=events[-1].stream_sequence) == []
        stood = range(events[0].stream_sequence, events[-1].stream_sequence + 1)
        assert [each for each in await read(reader, ALL_EVENTS) if each in stood] == left


async def test_a_read_of_many_batches_ends_though_its_last_event_cannot_be_read(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway:
        events = [
            await gateway.append(submitted(run, str(number)))
            for number in range(2 * READ_BATCH + 1)
        ]
        await lose(broker, events[-1:])
        assert await read(gateway, run_filter(run)) == [e.stream_sequence for e in events[:-1]]


async def test_a_run_that_lost_its_last_event_holds_up_no_other(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway:
        async with coordinating(broker):
            await gateway.append(asked(run))
            assignment = await until(gateway, run, StepAssigned)
        await gateway.append(asked(f"{run}x"))
        await lose(broker, [assignment])
        async with coordinating(broker, "coordinator-2"):
            await until(gateway, f"{run}x", StepAssigned)  # though nothing is stored that wakes it
            refused = asyncio.get_running_loop().time() + 2 * RETRY_S
            number = 0
            while asyncio.get_running_loop().time() < refused:  # the lost run is read once more
                number += 1
                await gateway.append(asked(f"{run}{number}"))
                await until(gateway, f"{run}{number}", StepAssigned)
