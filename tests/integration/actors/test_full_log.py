"""Agents whose answers have no room for a while, on a real broker whose streams are full."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from actors.attempt import Attempt, Report
from actors.worker import Worker
from bus.errors import LogFull
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog, Expected
from bus.payloads import StepClaimed, StepCompleted, Usage
from bus.work import WorkQueue
from policies.capabilities import queue_name
from tests.broker import STORE_BYTES, Broker
from tests.integration.actors.assigning import assigned, cancelled, kinds, payloads, said, settled
from tests.swarming import in_background

SMALL = 1 << 20
"""Of both streams; a quarter of it is for objects."""
LARGE = 300_000
"""An answer that is an object, and larger than that quarter."""
WITHIN_S = 60.0
LEASE_S = 3.0
OUTLASTING = 5
"""Tries, with a second between two, that take longer than a lease."""


async def _open() -> None:
    """A gate that holds nobody up."""


@dataclass
class Work:
    """What an agent answers, and how often it was asked and had no room."""

    size: int = LARGE
    gate: Callable[[], Awaitable[None]] = _open
    asked: int = 0
    refused: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def refusals(self, count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            for _ in range(count):
                await self.refused.acquire()


class Answering(Worker):
    """Answers without a model."""

    role = "coder"
    todo = Work()

    async def work(self, attempt: Attempt) -> Report:  # noqa: ARG002 - the port has it
        self.todo.asked += 1
        await self.todo.gate()
        usage = Usage(prompt_tokens=0, completion_tokens=0)
        return Report(answer={"text": "x" * self.todo.size}, model="none", usage=usage)


@asynccontextmanager
async def agent(broker: Broker, todo: Work, name: str = "coder-1") -> AsyncIterator[None]:
    async with broker.joined("coder", name) as log:
        append = log.append

        async def counted(draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
            try:
                return await append(draft, expected=expected)
            except LogFull:
                todo.refused.release()
                raise

        log.append = counted  # type: ignore[method-assign]
        member = Answering(log)
        member.todo = todo
        async with in_background(member.run(WorkQueue(log, queue_name("coder"), lease_s=LEASE_S))):
            yield


@pytest.fixture
async def coordinator(broker: Broker) -> AsyncIterator[EventLog]:
    await broker.provision(lease_s=LEASE_S, max_bytes=SMALL)
    async with broker.joined("coordinator") as log:
        yield log


async def make_room(broker: Broker) -> None:
    await broker.provision(lease_s=LEASE_S, max_bytes=STORE_BYTES)


async def fill(log: EventLog) -> None:
    """Leave no room for anything of a kilobyte."""
    for size in (100_000, 10_000, 1):
        for number in range(1_000):
            payload = StepCompleted(
                step="other",
                iteration=1,
                attempt=1,
                epoch=1,
                answer={"text": "x" * size},
                model="none",
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                duration_ms=1,
            )
            event_id = derive_id("filling", str(size), str(number))
            try:
                await log.append(Draft(run="r0", payload=payload, id=event_id, suffix=("critic",)))
            except LogFull:
                break
        else:
            pytest.fail("it is never full")


async def test_an_answer_that_finds_no_room_is_kept_until_there_is_some(
    broker: Broker, run: str, coordinator: EventLog
) -> None:
    todo = Work()
    async with agent(broker, todo):
        await coordinator.append(assigned(run))
        await todo.refusals(OUTLASTING)
        await make_room(broker)
        await settled(coordinator)
    events = await said(coordinator, run)
    assert kinds(events) == ["step.assigned", "step.claimed", "step.completed"]
    assert payloads(events, StepCompleted)[0].answer == {"text": "x" * LARGE}
    assert todo.asked == 1


async def test_so_it_is_where_the_events_have_no_room(
    broker: Broker, run: str, coordinator: EventLog
) -> None:
    async with broker.joined("critic") as other:
        todo = Work(size=2_000, gate=lambda: fill(other))
        async with agent(broker, todo):
            await coordinator.append(assigned(run))
            await todo.refusals(OUTLASTING)
            await make_room(broker)
            await settled(coordinator)
    events = await said(coordinator, run)
    assert kinds(events) == ["step.assigned", "step.claimed", "step.completed"]
    assert todo.asked == 1


async def test_an_agent_without_room_is_free_once_the_run_has_ended(
    broker: Broker, run: str, coordinator: EventLog
) -> None:
    todo = Work()
    async with agent(broker, todo):
        await coordinator.append(assigned(run))
        await todo.refusals(1)
        await coordinator.append(cancelled(run))
        todo.size = 1
        await coordinator.append(assigned(f"{run}b"))
        await settled(coordinator)
    assert kinds(await said(coordinator, run)) == [
        "step.assigned",
        "step.claimed",
        "run.cancelled",
    ]
    assert payloads(await said(coordinator, f"{run}b"), StepCompleted)


async def test_an_agent_without_room_stops_and_another_one_takes_over(
    broker: Broker, run: str, coordinator: EventLog
) -> None:
    todo = Work()
    async with agent(broker, todo):
        await coordinator.append(assigned(run))
        await todo.refusals(1)
    await make_room(broker)
    async with agent(broker, todo, "coder-2"):
        await settled(coordinator)
    events = await said(coordinator, run)
    assert [claim.agent for claim in payloads(events, StepClaimed)] == ["coder-1", "coder-2"]
    assert len(payloads(events, StepCompleted)) == 1
