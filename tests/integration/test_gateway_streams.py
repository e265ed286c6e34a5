"""The gateway and the SDK over real sockets: lines that break, a gateway that restarts."""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import httpx
import uvicorn

from bus.received import Received
from serve.app import create_app
from swarm import AsyncSwarm
from tests.unit.serve.fakes import (
    PASSWORD,
    RESEARCH,
    Fakes,
    MemoryLog,
    complete,
    do_step,
    quick,
    submit,
)

STEPS = 12


@asynccontextmanager
async def gateway(fakes: Fakes, port: int = 0) -> AsyncGenerator[int, None]:
    """A gateway on a port of the loopback interface."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        create_app(fakes.parts(quick(heartbeat_s=0.05))),
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


@asynccontextmanager
async def bad_line(
    target_port: int, dice: random.Random
) -> AsyncGenerator[tuple[int, list[int]], None]:
    """A line to a port that drops each connection after some bytes of the answer."""
    dropped: list[int] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target_port)
        upward = asyncio.create_task(_copy(reader, there_writer, None))
        limit = dice.randint(200, 6_000)
        await _copy(there_reader, writer, limit)
        dropped.append(limit)
        upward.cancel()
        writer.transport.abort()
        there_writer.transport.abort()
        await asyncio.gather(upward, return_exceptions=True)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], dropped


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
) -> None:
    left = limit
    while left is None or left > 0:
        data = await reader.read(4_096 if left is None else min(left, 4_096))
        if not data:
            return
        writer.write(data)
        await writer.drain()
        left = None if left is None else left - len(data)


async def connect(port: int, fakes: Fakes) -> AsyncSwarm:
    return await AsyncSwarm.connect(f"http://127.0.0.1:{port}", token=fakes.token())


async def work(fakes: Fakes) -> None:
    """The agents take their time, so that a reader sees some of it happen."""
    for number in range(STEPS):
        step = f"research{number}"
        await do_step(fakes.log, "r1", step=step, role="researcher", answer=RESEARCH)
    await complete(fakes.log, "r1")


async def test_a_line_that_breaks_at_random_costs_no_event_and_doubles_none() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to try the same line again
    fakes = Fakes()
    await submit(fakes.log)
    async with (
        gateway(fakes) as port,
        bad_line(port, random.Random(seed)) as (line, dropped),  # noqa: S311 - no secret
        await connect(line, fakes) as swarm,
        aclosing(swarm.run("r1").events()) as events,
    ):
        seen = [(await anext(events)).stream_sequence]
        working = asyncio.create_task(work(fakes))
        seen += [event.stream_sequence async for event in events]
        await working
    assert seen == [received.stream_sequence for received in fakes.log.stored]
    assert len(dropped) > 1


async def test_a_gateway_that_restarts_is_waited_for() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with gateway(fakes) as port:
        swarm = await connect(port, fakes)
        events = swarm.run("r1").events()
        seen = [(await anext(events)).stream_sequence]
        waiting = asyncio.create_task(swarm.run("r1").wait(timeout_s=20))
        coming = asyncio.create_task(anext(events))
        await asyncio.wait({coming}, timeout=0.2)
    await complete(fakes.log, "r1")
    async with gateway(fakes, port), swarm:
        seen += [(await coming).stream_sequence]
        seen += [event.stream_sequence async for event in events]
        assert (await waiting).status == "completed"
    assert seen == [1, 2]


async def test_a_reader_that_leaves_is_not_followed_for() -> None:
    class WatchedLog(MemoryLog):
        def __init__(self) -> None:
            super().__init__()
            self.left = asyncio.Event()

        async def follow(
            self, subject_filter: str, *, after: int = 0
        ) -> AsyncGenerator[Received, None]:
            try:
                async with aclosing(super().follow(subject_filter, after=after)) as events:
                    async for received in events:
                        yield received
            finally:
                self.left.set()

    log = WatchedLog()
    fakes = Fakes(log=log)
    await submit(log)
    async with gateway(fakes) as port:
        headers = {"Authorization": f"Bearer {fakes.token()}"}
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
            client.stream("GET", "/v1/runs/r1/events") as response,
        ):
            assert await anext(response.aiter_bytes())
            assert not log.left.is_set()
        async with asyncio.timeout(5.0):
            await log.left.wait()


async def test_a_password_login_works_over_a_socket() -> None:
    fakes = Fakes()
    async with (
        gateway(fakes) as port,
        await AsyncSwarm.connect(
            f"http://127.0.0.1:{port}", username="uma", password=PASSWORD
        ) as swarm,
    ):
        run = await swarm.submit("Write a parser.")
        assert (await run.status()).objective == "Write a parser."
