"""The work queue of a role on a real broker: one agent at a time, leased, handed over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bus.errors import BusUnreachable
from bus.event import Event, StoredEvent
from bus.log import EventLog
from bus.pull import pull
from bus.subjects import STREAM
from bus.work import Ack, Dead, Delivery, Retry, Verdict, WorkQueue
from policies.capabilities import queue_name
from tests.broker import Broker
from tests.integration.bus.test_log import assigned, publish_raw, read_all

LEASE_S = 3.0
QUIET_S = 1.3 * LEASE_S
"""Within this time an assignment whose lease is not kept comes again."""


@pytest.fixture(scope="module")
async def leased(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker with short leases; the queue holds nothing that another module left."""
    broker = Broker(tmp_path_factory.mktemp("leased"))
    await broker.start()
    await broker.provision(lease_s=LEASE_S)
    yield broker
    await broker.stop()


class Worker:
    """Notes what it is given, and answers as it is told."""

    def __init__(
        self, *verdicts: Verdict, work: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.verdicts = list(verdicts)
        self.given: asyncio.Queue[Delivery] = asyncio.Queue()
        self.work = work

    async def __call__(self, delivery: Delivery) -> Verdict:
        await self.given.put(delivery)
        if self.work is not None:
            await self.work()
        return self.verdicts.pop(0) if self.verdicts else Ack()

    async def next(self) -> Delivery:
        async with asyncio.timeout(30):
            return await self.given.get()

    async def nothing_more(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await self.given.get()


@asynccontextmanager
async def serving(log: EventLog, worker: Worker, role: str = "coder") -> AsyncIterator[None]:
    queue = WorkQueue(log, queue_name(role), lease_s=LEASE_S)
    task = asyncio.create_task(queue.run(worker))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert task.cancelled()


async def pending(log: EventLog) -> tuple[int, int]:
    info = await log.connection.client.jsm().consumer_info(STREAM, queue_name("coder"))
    return info.num_pending or 0, info.num_ack_pending or 0


async def settled(log: EventLog) -> None:
    """Wait until the broker has every answer."""
    async with asyncio.timeout(30):
        while await pending(log) != (0, 0):
            pass


async def test_an_assignment_goes_to_one_of_two_agents(leased: Broker, run: str) -> None:
    one, other = Worker(), Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("coder", "coder-1") as first,
        leased.joined("coder", "coder-2") as second,
        serving(first, one),
        serving(second, other),
    ):
        sent = [await coordinator.append(assigned(run, n)) for n in range(1, 7)]
        given: list[Delivery] = []
        async with asyncio.timeout(30):
            while len(given) < len(sent):
                for worker in (one, other):
                    while not worker.given.empty():
                        given.append(worker.given.get_nowait())
                await asyncio.sleep(0)
        assert sorted(d.assignment.event.id for d in given) == sorted(s.event.id for s in sent)
        assert {delivery.deliveries for delivery in given} == {1}
        await one.nothing_more()
        assert other.given.empty()
        assert await pending(first) == (0, 0)


async def test_an_agent_is_given_no_second_assignment_while_it_works(
    leased: Broker, run: str
) -> None:
    done = asyncio.Event()

    async def work() -> None:
        await done.wait()

    busy, idle = Worker(work=work), Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("coder") as one,
        serving(one, busy),
    ):
        first = await coordinator.append(assigned(run, 1))
        assert (await busy.next()).assignment.event == first.event
        async with leased.joined("coder", "coder-2") as other, serving(other, idle):
            second = await coordinator.append(assigned(run, 2))
            assert (await idle.next()).assignment.event == second.event
            done.set()
            await settled(one)


async def test_a_heartbeat_keeps_the_lease_while_the_work_lasts(leased: Broker, run: str) -> None:
    async def work() -> None:
        await asyncio.sleep(2.5 * LEASE_S)

    slow, idle = Worker(work=work), Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("coder", "coder-1") as one,
        leased.joined("coder", "coder-2") as other,
    ):
        async with serving(one, slow):
            await coordinator.append(assigned(run))
            assert (await slow.next()).deliveries == 1
            async with serving(other, idle):
                await idle.nothing_more()
                await slow.nothing_more()
        assert await pending(one) == (0, 0)


async def test_a_cancelled_assignment_goes_to_another_agent_and_is_counted(
    leased: Broker, run: str
) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    stuck, healthy = Worker(work=work), Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("coder", "coder-1") as one,
        leased.joined("coder", "coder-2") as other,
    ):
        sent = await coordinator.append(assigned(run))
        async with serving(one, stuck):
            assert (await stuck.next()).deliveries == 1
        async with serving(other, healthy):
            again = await healthy.next()
            await settled(other)
        assert again.deliveries == 2
        assert again.assignment.event == sent.event


async def test_an_agent_that_vanished_loses_its_lease(leased: Broker, run: str) -> None:
    """It pulled, and died before it could say anything."""
    healthy = Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("coder", "coder-2") as other,
    ):
        sent = await coordinator.append(assigned(run))
        async with leased.joined("coder", "coder-1") as vanishing:
            started = asyncio.get_running_loop().time()
            messages = pull(vanishing.connection, queue_name("coder"), batch=1)
            message = await anext(messages)
            await messages.aclose()
            assert message.data == sent.event.data
        async with serving(other, healthy):
            again = await healthy.next()
            await settled(other)
        assert (again.deliveries, again.assignment.event) == (2, sent.event)
        assert asyncio.get_running_loop().time() - started > LEASE_S / 2


async def test_a_retry_comes_again_after_its_delay(leased: Broker, run: str) -> None:
    worker = Worker(Retry(delay_s=0.4), Retry(delay_s=0))
    clock = asyncio.get_running_loop().time
    async with leased.joined("coordinator") as coordinator, leased.joined("coder") as coder:
        async with serving(coder, worker):
            await coordinator.append(assigned(run))
            assert (await worker.next()).deliveries == 1
            first = clock()
            assert (await worker.next()).deliveries == 2
            second = clock()
            assert (await worker.next()).deliveries == 3
            third = clock()
            await worker.nothing_more()
        assert second - first >= 0.35
        assert third - second < 0.9 * LEASE_S
        assert await pending(coder) == (0, 0)


async def test_a_dead_assignment_never_comes_again(leased: Broker, run: str) -> None:
    worker = Worker(Dead(reason="made up"))
    async with leased.joined("coordinator") as coordinator, leased.joined("coder") as coder:
        async with serving(coder, worker):
            await coordinator.append(assigned(run))
            await worker.next()
            await worker.nothing_more()
        assert await pending(coder) == (0, 0)


async def test_a_handler_that_fails_ends_the_queue_and_the_assignment_is_not_lost(
    leased: Broker, run: str
) -> None:
    async def fail(_: Delivery) -> Verdict:
        raise ValueError("made up")

    healthy = Worker()
    async with leased.joined("coordinator") as coordinator, leased.joined("coder") as coder:
        sent = await coordinator.append(assigned(run))
        with pytest.raises(ValueError, match="made up"):
            async with asyncio.timeout(30):
                await WorkQueue(coder, queue_name("coder"), lease_s=LEASE_S).run(fail)
        async with serving(coder, healthy):
            again = await healthy.next()
            await settled(coder)
        assert (again.deliveries, again.assignment.event) == (2, sent.event)


async def test_a_refused_assignment_is_recorded_and_the_queue_goes_on(
    leased: Broker, run: str
) -> None:
    worker = Worker()
    async with leased.joined("coordinator") as coordinator, leased.joined("coder") as coder:
        event = coordinator.sender.sign(assigned(run, 1))
        forged = Event(
            subject=event.subject,
            headers=event.headers,
            data=event.data.replace(b'"objective":"x"', b'"objective":"y"'),
        )
        assert forged.data != event.data
        sequence = await publish_raw(coordinator, forged)
        sent = await coordinator.append(assigned(run, 2))
        async with serving(coder, worker):
            assert (await worker.next()).assignment.event == sent.event
            await worker.nothing_more()
        records = [
            received.payload().model_dump()
            for received in await read_all(coordinator, run)
            if isinstance(received, StoredEvent) and received.event.type == "swarm.event.refused.v1"
        ]
        assert [(r["stream_sequence"], r["code"]) for r in records] == [(sequence, "bad_signature")]
        assert await pending(coder) == (0, 0)


async def test_an_agent_of_another_role_is_given_nothing(leased: Broker, run: str) -> None:
    wrong, right = Worker(), Worker()
    async with (
        leased.joined("coordinator") as coordinator,
        leased.joined("judge") as judge,
        leased.joined("coder") as coder,
        serving(judge, wrong, "judge"),
        serving(coder, right),
    ):
        await coordinator.append(assigned(run))
        await right.next()
        await wrong.nothing_more()


async def test_a_queue_on_a_closed_connection_ends(leased: Broker) -> None:
    async with leased.joined("coder") as coder:
        queue = WorkQueue(coder, queue_name("coder"), lease_s=LEASE_S)
        task = asyncio.create_task(queue.run(Worker()))
        await coder.connection.client.flush()
        await coder.connection.close()
        with pytest.raises(BusUnreachable):
            async with asyncio.timeout(30):
                await task
