"""A swarm of plain classes in one event loop, on a real broker: no Ray, no model."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

from actors.coordinator import Coordinator
from actors.memory_client import MemoryService
from actors.model import Completion, Message, ModelRequest
from actors.team import AGENTS
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import RunCancelled, RunCompleted, RunFailed, RunSubmitted
from bus.subjects import run_filter
from bus.work import WorkQueue
from policies.capabilities import queue_name
from serve.inference import chat_request
from serve.scripted import ChatRequest, answer, engine, parse
from tests.broker import Broker

Gate = Callable[[Sequence[Message]], Awaitable[None]]


async def _open(_: Sequence[Message]) -> None:
    """A gate that holds nobody up."""


@dataclass
class ScriptedAnswers:
    """The scripted model without Serve; a gate may hold an answer back or fail it."""

    gate: Gate = _open
    calls: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """What the users' messages were."""

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        self.calls.append(request.messages[0].content)
        self.asked.append(request.messages[-1].content)
        await self.gate(request.messages)
        asked = parse(ChatRequest, {"model": "scripted", **chat_request(request)})
        text = "".join(answer(asked).pieces)
        return Completion(
            text=text,
            prompt_tokens=sum(len(m.content.split()) for m in request.messages),
            completion_tokens=len(text.split()),
            model="scripted",
            engine=engine(),
        )


def submission(
    run: str, objective: str = "Design a rate limiter", workflow: str = "sparc"
) -> Draft:
    return Draft(
        run=run,
        payload=RunSubmitted(
            objective=objective, workflow=workflow, model="scripted", requested_by="admin"
        ),
        id=derive_id("run.submitted", run),
        on_behalf_of="admin",
    )


@asynccontextmanager
async def in_background(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs something that never ends, for as long as the block; its failure fails the block."""
    task = asyncio.ensure_future(work)
    try:
        yield task
        if task.done() and not task.cancelled():
            task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=1.0)


@asynccontextmanager
async def agent(
    broker: Broker,
    role: str,
    name: str,
    model: ScriptedAnswers,
    lease_s: float = 1.0,
    memory: MemoryService | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    async with broker.joined(role, name) as log:
        member = AGENTS[role](log, model)
        member.memory_service = memory
        queue = WorkQueue(log, queue_name(role), lease_s=lease_s)
        async with in_background(member.run(queue)) as task:
            yield task


@asynccontextmanager
async def coordinator(broker: Broker, name: str = "coordinator-1") -> AsyncIterator[None]:
    async with (
        broker.joined("coordinator", name) as log,
        in_background(Coordinator(log).run()),
    ):
        yield


@asynccontextmanager
async def team(
    broker: Broker, model: ScriptedAnswers, memory: MemoryService | None = None
) -> AsyncIterator[None]:
    """A coordinator and an agent of each role."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(coordinator(broker))
        for role in AGENTS:
            await stack.enter_async_context(agent(broker, role, f"{role}-1", model, memory=memory))
        yield


async def until_end(log: EventLog, run: str, deadline_s: float = 60.0) -> list[StoredEvent]:
    """Every event of a run, up to the one that ends it."""
    events: list[StoredEvent] = []
    async with asyncio.timeout(deadline_s), aclosing(log.follow(run_filter(run))) as following:
        async for received in following:
            if isinstance(received, StoredEvent):
                events.append(received)
                if received.event.type in (RunCompleted.TYPE, RunFailed.TYPE, RunCancelled.TYPE):
                    break
    return events


def by_type(events: Sequence[StoredEvent]) -> dict[str, list[StoredEvent]]:
    found: dict[str, list[StoredEvent]] = {}
    for event in events:
        found.setdefault(event.event.type, []).append(event)
    return found


def readable(events: Sequence[StoredEvent]) -> str:
    return "\n".join(
        f"{e.stream_sequence} {e.event.type} {e.event.source} {json.loads(e.event.data)}"[:200]
        for e in events
    )
