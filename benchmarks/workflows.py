"""Workflows of five steps, one after another, on a model that answers at once."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import count

import nats
import uvloop
from pydantic import JsonValue

from actors.coordinator import Coordinator
from actors.definition import definition_of
from actors.model import Completion, ModelRequest
from actors.team import AGENTS
from actors.workflow import StepSpec, WorkflowSpec
from benchmarks.world import beside, broker, known, plain_server
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import RunCompleted, RunFailed, RunSubmitted
from bus.subjects import kind_filter, kind_of, subject_for
from bus.work import WorkQueue
from policies.capabilities import queue_name
from tests.broker import Broker

AT_ONCE = 16
ALONE = 50
WARM_UP = 20
WORKFLOWS = 400
AGENTS_PER_ROLE = 4
"""Enough that sixteen workflows at once are seldom held up by the agents of one role."""
EVENTS = 17
"""Of one workflow: submitted, five times assigned, claimed and completed, completed."""
DEADLINE_S = 60
STEPS = (
    ("specification", "specifier"),
    ("research", "researcher"),
    ("architecture", "architect"),
    ("code", "coder"),
    ("test", "tester"),
)
Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one way to run workflows."""

    alone_ms: float
    """Median from the submission to the result, with nothing else going on."""
    per_second: float
    """With sixteen at once."""
    events: float
    """Stored for one workflow."""


def chain_of_five() -> WorkflowSpec:
    """Each step reads the answer of the one before."""
    names = [name for name, _ in STEPS]
    nodes = [
        StepSpec(name=name, role=role, inputs=tuple(names[max(0, place - 1) : place]))
        for place, (name, role) in enumerate(STEPS)
    ]
    return WorkflowSpec(name="chain", nodes=tuple(nodes))


async def measure(sync: str) -> dict[str, Figures]:
    """Figures of ours, and of the same number of raw publishes one after another."""
    async with broker(sync) as world:
        where = str(world.directory), world.port
        with beside(work_all, *where), beside(coordinate, *where):
            ours = await _ours(world)
    async with plain_server(sync) as url:
        return {"ours": ours, "raw nats-py, publishes only": await _raw(url)}


def coordinate(directory: str, port: int) -> None:
    """One process: the coordinator, as it is in the swarm."""
    uvloop.run(_coordinate(known(directory, port)))


async def _coordinate(world: Broker) -> None:
    async with world.joined("coordinator") as log:
        await Coordinator(log, window=2 * AGENTS_PER_ROLE + 2).run()


def work_all(directory: str, port: int) -> None:
    """Another process: every agent."""
    uvloop.run(_work_all(known(directory, port)))


async def _work_all(world: Broker) -> None:
    model = InstantModel()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for _, role in STEPS:
            for number in range(AGENTS_PER_ROLE):
                joining = world.joined(role, f"{role}-{number + 1}")
                log = await stack.enter_async_context(joining)
                queue = WorkQueue(log, queue_name(role), lease_s=30)
                tasks.create_task(AGENTS[role](log, model).run(queue))


class InstantModel:
    """Answers with the smallest answer of the schema that it is asked for."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer at once."""
        schema = dict(request.schema or {})
        title = str(schema["title"])
        if title not in self._answers:
            self._answers[title] = json.dumps(_smallest(schema))
        return Completion(
            text=self._answers[title], prompt_tokens=1, completion_tokens=1, model="instant"
        )


def _smallest(schema: JsonValue) -> JsonValue:
    match schema:
        case {"enum": [first, *_]}:
            return first
        case {"type": "object", "properties": dict(fields)}:
            return {name: _smallest(field) for name, field in fields.items()}
        case {"type": "array", "items": items}:
            return [_smallest(items)]
        case {"type": "boolean"}:
            return True
    return "One two three four five words stand here."


async def _ours(world: Broker) -> Figures:
    definition = definition_of(chain_of_five())
    numbers = count()
    async with world.joined("gateway") as gateway, _ends(gateway) as ends:

        async def run() -> None:
            name = f"bench{next(numbers)}"
            ended = ends[name] = asyncio.get_running_loop().create_future()
            payload = RunSubmitted(
                objective="Design a rate limiter",
                workflow="chain",
                model="instant",
                requested_by="bench",
                definition=definition,
            )
            event_id = derive_id("run.submitted", name)
            draft = Draft(run=name, payload=payload, id=event_id, on_behalf_of="bench")
            await gateway.append(draft)
            async with asyncio.timeout(DEADLINE_S):
                await ended

        alone_ms = await _alone(run)
        before = await gateway.last_sequence()
        per_second = await _at_once(run)
        events = (await gateway.last_sequence() - before) / WORKFLOWS
        return Figures(alone_ms=alone_ms, per_second=per_second, events=events)


@asynccontextmanager
async def _ends(log: EventLog) -> AsyncIterator[dict[str, asyncio.Future[None]]]:
    """Futures by run, which are done when the run has ended."""
    waiting: dict[str, asyncio.Future[None]] = {}

    async def watch(event_type: str) -> None:
        async with aclosing(log.follow(kind_filter(kind_of(event_type)))) as events:
            async for received in events:
                assert isinstance(received, StoredEvent)
                ended = waiting.pop(received.event.run)
                if event_type == RunCompleted.TYPE:
                    ended.set_result(None)
                else:
                    ended.set_exception(RuntimeError(f"a run failed: {received.payload()}"))

    watching = [asyncio.create_task(watch(kind.TYPE)) for kind in (RunCompleted, RunFailed)]
    try:
        yield waiting
    finally:
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)


async def _raw(url: str) -> Figures:
    """As many messages as a workflow has events, each after the answer to the one before."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    subject = subject_for("raw", RunSubmitted.TYPE)

    async def run() -> None:
        for _ in range(EVENTS):
            await stream.publish(subject, b"x" * 512)

    try:
        return Figures(alone_ms=await _alone(run), per_second=await _at_once(run), events=EVENTS)
    finally:
        await connection.close()


async def _alone(run: Work) -> float:
    took = []
    for _ in range(WARM_UP + ALONE):
        began = time.perf_counter()
        await run()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took[WARM_UP:])


async def _at_once(run: Work) -> float:
    left = iter(range(WORKFLOWS))

    async def one_after_another() -> None:
        for _ in left:
            await run()

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return WORKFLOWS / (time.perf_counter() - began)
