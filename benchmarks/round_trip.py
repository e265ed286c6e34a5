"""A signed request to a signed reply between two members in two processes, over the log."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import count

import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks.world import PAYLOAD_BYTES, beside, broker, known, plain_server
from bus.event import Draft, derive_id
from bus.payloads import RunFailed, RunSubmitted
from bus.subjects import subject_for
from tests.broker import Broker

ROUNDS = 1_000
WARM_UP = 100
RUN = "bench"
REQUEST = subject_for(RUN, RunSubmitted.TYPE)
REPLY = subject_for(RUN, RunFailed.TYPE)
TEXT = "x" * PAYLOAD_BYTES


async def measure(sync: str) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in ms, of ours and of raw nats-py."""
    async with broker(sync) as world:
        with beside(answer_signed, str(world.directory), world.port):
            ours = await _ours(world)
    async with plain_server(sync) as url:
        with beside(answer_raw, url):
            return {"signed and sealed events": ours, "raw nats-py": await _raw(url)}


def answer_signed(directory: str, port: int) -> None:
    """The other process: a member that answers."""
    uvloop.run(_answer_signed(known(directory, port)))


def answer_raw(url: str) -> None:
    """The other process without signatures."""
    uvloop.run(_answer_raw(url))


async def _answer_signed(world: Broker) -> None:
    async with world.joined("coordinator") as log, aclosing(log.follow(REQUEST)) as requests:
        async for request in requests:
            event_id = derive_id("reply", str(request.stream_sequence))
            payload = RunFailed(code="bench", message=TEXT)
            draft = Draft(run=RUN, payload=payload, id=event_id, on_behalf_of="bench")
            await log.append(draft)


async def _answer_raw(url: str) -> None:
    stream = (await nats.connect(url)).jetstream()
    requests = await stream.subscribe(REQUEST, stream="EVENTS", config=_unacknowledged())
    while True:
        await requests.next_msg(timeout=3_600)
        await stream.publish(REPLY, TEXT.encode())


async def _ours(world: Broker) -> tuple[float, float]:
    async with world.joined("gateway") as log, aclosing(log.follow(REPLY)) as replies:
        numbers = count()

        async def ask() -> None:
            payload = RunSubmitted(
                objective=TEXT, workflow="sparc", model="none", requested_by="bench"
            )
            event_id = derive_id("request", str(next(numbers)))
            reply = asyncio.ensure_future(anext(replies))
            draft = Draft(run=RUN, payload=payload, id=event_id, on_behalf_of="bench")
            await log.append(draft)
            await reply

        return await _times(ask)


async def _raw(url: str) -> tuple[float, float]:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    replies = await stream.subscribe(REPLY, stream="EVENTS", config=_unacknowledged())

    async def ask() -> None:
        await stream.publish(REQUEST, TEXT.encode())
        await replies.next_msg(timeout=10)

    try:
        return await _times(ask)
    finally:
        await connection.close()


async def _times(ask: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    took = []
    for _ in range(WARM_UP + ROUNDS):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    ordered = sorted(took[WARM_UP:])
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


def _unacknowledged() -> ConsumerConfig:
    return ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
