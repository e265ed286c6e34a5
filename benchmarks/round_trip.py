"""A signed request to a signed reply between two members in two processes, over the log."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import count
from uuid import uuid4

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks.world import PAYLOAD_BYTES, beside, broker, known
from bus.connection import Connection
from bus.event import Draft, derive_id
from bus.payloads import RunFailed, RunSubmitted
from bus.subjects import subject_for
from tests.broker import Broker

ROUNDS = 1_000
WARM_UP = 100
RUN = "bench"
REQUEST = subject_for(RUN, RunSubmitted.TYPE)
REPLY = subject_for(RUN, RunFailed.TYPE)
RAW_REQUEST = subject_for("raw", RunSubmitted.TYPE)
RAW_REPLY = subject_for("raw", RunFailed.TYPE)
TEXT = "x" * PAYLOAD_BYTES


async def measure(sync: str) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in ms, of ours and of raw nats-py."""
    async with broker(sync) as world:
        with beside(answer_all, str(world.directory), world.port):
            return {"signed events": await _ours(world), "raw nats-py": await _raw(world)}


def answer_all(directory: str, port: int) -> None:
    """The other process: answers requests of both kinds."""
    asyncio.run(_answer_all(known(directory, port)))


async def _answer_all(world: Broker) -> None:
    async with world.joined("coordinator") as log, asyncio.TaskGroup() as group:

        async def answer_signed() -> None:
            async with aclosing(log.follow(REQUEST)) as requests:
                async for request in requests:
                    event_id = derive_id("reply", str(request.stream_sequence))
                    payload = RunFailed(code="bench", message=TEXT)
                    await log.append(Draft(run=RUN, payload=payload, id=event_id))

        group.create_task(answer_signed())
        group.create_task(_raw_answers(log.connection))


async def _raw_answers(connection: Connection) -> None:
    stream = connection.client.jetstream()
    requests = await stream.subscribe(RAW_REQUEST, stream="EVENTS", config=_from_now())
    while True:
        await requests.next_msg(timeout=3_600)
        await stream.publish(RAW_REPLY, TEXT.encode())


async def _ours(world: Broker) -> tuple[float, float]:
    async with world.joined("gateway") as log, aclosing(log.follow(REPLY)) as replies:
        numbers = count()

        async def ask() -> None:
            payload = RunSubmitted(
                objective=TEXT, workflow="sparc", model="none", requested_by="bench"
            )
            event_id = derive_id("request", str(next(numbers)))
            reply = asyncio.ensure_future(anext(replies))
            await log.append(Draft(run=RUN, payload=payload, id=event_id))
            await reply

        return await _times(ask)


async def _raw(world: Broker) -> tuple[float, float]:
    async with world.connected("gateway") as (connection, _):
        stream = connection.client.jetstream()
        replies = await stream.subscribe(RAW_REPLY, stream="EVENTS", config=_from_now())

        async def ask() -> None:
            await stream.publish(RAW_REQUEST, TEXT.encode())
            await replies.next_msg(timeout=10)

        return await _times(ask)


async def _times(ask: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    took = []
    for _ in range(WARM_UP + ROUNDS):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    ordered = sorted(took[WARM_UP:])
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


def _from_now() -> ConsumerConfig:
    return ConsumerConfig(
        name=uuid4().hex, deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE
    )
