"""The broker dies in the middle: readers miss nothing, senders keep their chain."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from bus.errors import BusUnreachable, PublishUnconfirmed
from bus.event import StoredEvent
from bus.log import EventLog
from bus.provision import DUPLICATE_WINDOW_S
from bus.reference import OBJECTS
from bus.subjects import ALL_EVENTS, STREAM, run_filter
from bus.trim import can_be_trimmed
from bus.trust import ChainTracker
from bus.work import Ack, Delivery, Verdict, WorkQueue
from policies.capabilities import queue_name
from tests.broker import STORE_BYTES, Broker
from tests.integration.bus.test_log import assigned, read_all, submitted


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker of one's own, to be killed."""
    broker = Broker(tmp_path)
    await broker.start()
    await broker.provision()
    yield broker
    assert broker.process is not None
    if broker.process.returncode is None:
        await broker.stop()


async def kill_and_start(broker: Broker) -> None:
    await broker.stop(signal.SIGKILL)
    await broker.start()


async def follow_until(log: EventLog, run: str, count: int, seen: list[StoredEvent]) -> None:
    async for received in log.follow(run_filter(run)):
        assert isinstance(received, StoredEvent)
        seen.append(received)
        if len(seen) == count:
            return


async def test_a_follower_misses_and_repeats_nothing(mortal: Broker, run: str) -> None:
    seen: list[StoredEvent] = []
    async with mortal.joined("gateway") as gateway, mortal.joined("coordinator") as reader:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(follow_until(reader, run, 90, seen))
            for n in range(90):
                await gateway.append(submitted(run, f"job {n}"))
                if n in (30, 60):
                    await kill_and_start(mortal)
        sequences = [one.stream_sequence for one in seen]
        assert sequences == sorted(set(sequences))
        assert [one.event.sequence for one in seen] == list(range(1, 91))


async def test_appends_during_a_restart_resolve_and_the_chain_joins(
    mortal: Broker, run: str
) -> None:
    async with mortal.joined("gateway") as gateway:
        due = asyncio.Semaphore(0)

        async def append_all() -> None:
            for n in range(400):
                await gateway.append(submitted(run, f"job {n}"))
                if n in (20, 150, 300):
                    due.release()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(append_all())
            for _ in range(3):
                await due.acquire()
                await kill_and_start(mortal)
        tracker = ChainTracker()
        received = await read_all(gateway, run)
        for one in received:
            assert isinstance(one, StoredEvent)
            tracker.follow(one.event)
        assert len(received) == 400


async def test_an_append_waits_for_a_broker_that_is_down(mortal: Broker, run: str) -> None:
    async with mortal.joined("gateway") as gateway:
        await mortal.stop(signal.SIGKILL)
        append = asyncio.create_task(gateway.append(submitted(run)))
        done, _ = await asyncio.wait((append,), timeout=0.5)
        assert done == set()
        await mortal.start()
        async with asyncio.timeout(10):
            assert (await append).event.sequence == 1
        assert len(await read_all(gateway, run)) == 1


async def test_an_append_gives_up_at_its_deadline_and_the_next_one_settles_it(
    mortal: Broker, run: str
) -> None:
    async with mortal.joined("gateway") as gateway:
        await mortal.stop(signal.SIGKILL)
        gateway._appender._deadline_s = 0.5
        with pytest.raises(PublishUnconfirmed):
            async with asyncio.timeout(5):
                await gateway.append(submitted(run, "job 0"))
        await mortal.start()
        gateway._appender._deadline_s = 10
        last = None
        async with asyncio.timeout(20):
            while last is None:  # the client may need a moment to find the broker again
                with suppress(PublishUnconfirmed):
                    last = await gateway.append(submitted(run, "job 1"))
        assert last.event.sequence == 2
        assert len(await read_all(gateway, run)) == 2


async def test_a_read_without_a_broker_says_so(mortal: Broker, run: str) -> None:
    async with mortal.joined("coordinator") as reader:
        await mortal.stop(signal.SIGKILL)
        with pytest.raises(BusUnreachable):
            async with asyncio.timeout(10):
                await read_all(reader, run)


async def test_a_follower_whose_connection_is_closed_ends(mortal: Broker, run: str) -> None:
    async with mortal.joined("gateway") as gateway, mortal.joined("coordinator") as reader:
        await gateway.append(submitted(run))
        async with asyncio.timeout(10), aclosing(reader.follow(run_filter(run))) as events:
            assert isinstance(await anext(events), StoredEvent)
            await reader.connection.close()
            with pytest.raises(BusUnreachable):
                await anext(events)


async def test_a_queue_survives_a_restart(mortal: Broker, run: str) -> None:
    served: asyncio.Queue[str] = asyncio.Queue()

    async def handle(delivery: Delivery) -> Verdict:
        await served.put(delivery.assignment.event.id)
        return Ack()

    async with mortal.joined("coordinator") as coordinator, mortal.joined("coder") as coder:
        task = asyncio.create_task(WorkQueue(coder, queue_name("coder"), lease_s=2).run(handle))
        try:
            async with asyncio.timeout(30):
                for n in range(1, 4):
                    sent = await coordinator.append(assigned(run, n))
                    while await served.get() != sent.event.id:
                        pass
                    await kill_and_start(mortal)
        finally:
            task.cancel()
            await asyncio.wait((task,))
        assert task.cancelled()


async def test_what_exists_is_provisioned_again_after_a_restart(tmp_path: Path) -> None:
    """Also where the stream's bound is all that the server may store, and part of it is used."""
    broker = Broker(tmp_path)
    await broker.start()
    await broker.provision()
    async with broker.joined("gateway") as gateway:
        stored = await gateway.last_sequence()
    await broker.stop()
    await broker.start()
    try:
        await broker.provision(lease_s=7.0)
        async with broker.joined("gateway") as gateway:
            assert await gateway.last_sequence() > stored
    finally:
        await broker.stop()


async def test_a_stream_of_an_earlier_version_makes_room_for_objects(tmp_path: Path) -> None:
    """It took all there was and never lets anybody purge; it is kept, and only not trimmed."""
    broker = Broker(tmp_path)
    await broker.start()
    try:
        async with broker.connected("launcher") as (connection, _):
            earlier = StreamConfig(
                name=STREAM,
                subjects=[ALL_EVENTS],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_bytes=STORE_BYTES,
                duplicate_window=DUPLICATE_WINDOW_S,
                deny_delete=True,
                deny_purge=True,
                allow_direct=True,
            )
            await connection.manager.add_stream(earlier)
        async with broker.joined("gateway") as gateway:
            stored = await gateway.last_sequence()
        for _ in range(2):
            await broker.provision()
        async with broker.connected("launcher") as (connection, _):
            assert not await can_be_trimmed(connection)
            assert await can_be_trimmed(connection, OBJECTS)
        async with broker.joined("gateway") as gateway:
            assert await gateway.last_sequence() > stored
    finally:
        await broker.stop()
