"""The auditor's queue: as many events as it may hold, and as many bytes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from actors.intake import Intake
from bus.event import StoredEvent
from tests.sending import appended, new_sender, submitted


def stored(objective: str) -> StoredEvent:
    event = appended(new_sender(), "r1", objective)
    return StoredEvent(event=event, stream_sequence=1, stored_at=datetime.now(UTC))


async def test_a_large_event_holds_up_the_next_until_it_is_taken() -> None:
    queue = Intake(100, limit_bytes=10_000)
    for _ in range(2):
        queue.put_nowait(stored("small"))
    queue.put_nowait(stored("x" * 10_000))
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(stored("small"))
    waiting = asyncio.create_task(queue.put(stored("last")))
    for _ in range(2):
        queue.get_nowait()
    await asyncio.sleep(0)
    assert not waiting.done()
    await queue.get()
    async with asyncio.timeout(5):
        await waiting
    assert queue.qsize() == 1


async def test_the_number_counts_too() -> None:
    queue = Intake(1)
    queue.put_nowait(stored("small"))
    assert queue.full()


def test_what_is_sealed_counts_as_large_as_it_is() -> None:
    sealed = submitted("r1", "x" * 10_000).sealed_under(bytes(32))
    event = replace(new_sender().sign(sealed), opened=None)
    queue = Intake(100, limit_bytes=10_000)
    queue.put_nowait(StoredEvent(event=event, stream_sequence=1, stored_at=datetime.now(UTC)))
    assert queue.full()
