"""1,000 tasks, 16 agents of one role that take them from each other: one result each.

Every agent is a process of its own. Now and then one stands still for longer than its lease,
heartbeats included, as a process does that is swapped out; another takes its task over, and the
first one's result comes too late.
"""

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from actors.definition import definition_of
from actors.model import Message
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import Authority
from bus.log import EventLog
from bus.payloads import (
    ResultRefused,
    RunCompleted,
    RunSubmitted,
    StepCompleted,
    StepFailed,
    StepPayload,
)
from bus.received import Received
from bus.subjects import ALL_EVENTS
from tests.broker import Broker
from tests.chaos.checker import TERMINAL, check
from tests.swarming import ScriptedAnswers, agent, coordinator

ROLE = "specifier"
AGENTS, RUNS, STEPS = 16, 100, 10
LEASE_S = 0.3
PAUSES = 0.1
"""Share of the tasks in which the agent stands still."""
LONGEST_PAUSE_S = 3 * LEASE_S
SEED = 16
SPAWN = multiprocessing.get_context("spawn")
READY_S = 120.0
ENDED_S = 240.0
WIDE = WorkflowSpec(
    name="wide", nodes=tuple(StepSpec(name=f"part-{n}", role=ROLE) for n in range(STEPS))
)


def _known(directory: str, port: int) -> Broker:
    return Broker(Path(directory), authority=Authority.load(Path(directory)), port=port)


async def _agent(directory: str, port: int, number: int, ready: Barrier) -> None:
    chance = random.Random(SEED * AGENTS + number)  # noqa: S311

    async def stand_still(_: Sequence[Message]) -> None:
        if chance.random() < PAUSES:
            time.sleep(chance.uniform(LEASE_S, LONGEST_PAUSE_S))  # noqa: ASYNC251 - on purpose

    broker, model = _known(directory, port), ScriptedAnswers(stand_still)
    async with agent(broker, ROLE, f"{ROLE}-{number}", model, lease_s=LEASE_S) as task:
        await asyncio.to_thread(ready.wait, READY_S)
        await task


async def _coordinator(directory: str, port: int, _: int, ready: Barrier) -> None:
    async with coordinator(_known(directory, port)):
        await asyncio.to_thread(ready.wait, READY_S)
        await asyncio.Event().wait()


def _live(what: str, directory: str, port: int, number: int, ready: Barrier) -> None:
    work: Coroutine[None, None, None] = {"agent": _agent, "coordinator": _coordinator}[what](
        directory, port, number, ready
    )
    asyncio.run(work)


@contextmanager
def _process(what: str, broker: Broker, number: int, ready: Barrier) -> Iterator[None]:
    arguments = (what, str(broker.directory), broker.port, number, ready)
    process = SPAWN.Process(target=_live, args=arguments)
    process.start()
    try:
        yield
        assert process.exitcode is None, f"{what} {number} ended with {process.exitcode}"
    finally:
        process.terminate()
        process.join(10)
        process.kill()
        process.join()
        process.close()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    made = Broker(tmp_path)
    made.authority.save(tmp_path)
    await made.start()
    await made.provision(lease_s=LEASE_S)
    yield made
    await made.stop()


@asynccontextmanager
async def _contending(broker: Broker) -> AsyncIterator[EventLog]:
    """16 agents and their coordinator at work; the log, for who hands the runs in."""
    ready = SPAWN.Barrier(AGENTS + 2)
    with ExitStack() as processes:
        processes.enter_context(_process("coordinator", broker, 0, ready))
        for number in range(1, AGENTS + 1):
            processes.enter_context(_process("agent", broker, number, ready))
        async with broker.joined("gateway") as log:
            await asyncio.to_thread(ready.wait, READY_S)
            yield log


async def _submit(log: EventLog) -> None:
    for number in range(RUNS):
        run = f"r{number:020d}"
        payload = RunSubmitted(
            objective="Design a rate limiter",
            workflow=WIDE.name,
            model="scripted",
            requested_by="admin",
            definition=definition_of(WIDE),
        )
        await log.append(Draft(run=run, payload=payload, id=derive_id("run.submitted", run)))


async def _all_ended(log: EventLog) -> None:
    ended: set[str] = set()
    async with aclosing(log.follow(ALL_EVENTS)) as events:
        async for received in events:
            if isinstance(received, StoredEvent) and isinstance(received.payload(), TERMINAL):
                ended.add(received.event.run)
                if len(ended) == RUNS:
                    return


async def _settled(log: EventLog) -> list[Received]:
    """The whole log, once the last late result has come and been refused."""
    while True:
        async with aclosing(log.read(ALL_EVENTS)) as events:
            received = [each async for each in events]
        await asyncio.sleep(LONGEST_PAUSE_S)
        unsaid = [violation for violation in check(received) if violation.rule == "one result"]
        if not unsaid and await log.last_sequence() == received[-1].stream_sequence:
            return received


def _task(each: StoredEvent, payload: StepPayload) -> tuple[object, ...]:
    return each.event.run, payload.step, payload.iteration, payload.item


@pytest.mark.timeout(500)
async def test_a_thousand_tasks_and_sixteen_agents_give_one_accepted_result_each(
    broker: Broker,
) -> None:
    async with _contending(broker) as log, asyncio.timeout(ENDED_S):
        await _submit(log)
        await _all_ended(log)
        received = await _settled(log)
    assert check(received) == ()
    stored = [(each, each.payload()) for each in received if isinstance(each, StoredEvent)]
    refused = {payload.refused for _, payload in stored if isinstance(payload, ResultRefused)}
    results = [(e, p) for e, p in stored if isinstance(p, StepCompleted)]
    accepted = Counter(_task(e, p) for e, p in results if e.event.id not in refused)
    assert len(accepted) == RUNS * STEPS
    assert set(accepted.values()) == {1}
    assert sum(isinstance(payload, RunCompleted) for _, payload in stored) == RUNS
    # Not one of them late, and nobody would have contended.
    outcomes = {e.event.id for e, p in stored if isinstance(p, StepCompleted | StepFailed)}
    assert len(results) - len(accepted) >= RUNS * STEPS * PAUSES / 4
    assert refused <= outcomes
    assert len({e.event.agent for e, _ in results}) == AGENTS
