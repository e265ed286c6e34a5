"""The gateway and the SDK over real sockets: lines that break, a gateway that restarts."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest
import uvicorn
from pydantic import JsonValue

from bus.event import Draft, derive_id
from bus.log import EventLog
from bus.payloads import PauseRequested, RunCompleted, Usage
from bus.received import Received
from bus.subjects import run_filter
from serve.app import create_app
from swarm import AsyncSwarm, http
from tests.broker import Broker
from tests.swarming import in_background, submission
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

CUTS = 200
HEADER = "Last-Event-ID"
LONG_CHARS = 5 * 1024 * 1024


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
    """A line to a port that drops each connection after some bytes of the answer.

    The first one lasts for as long as it takes to connect.
    """
    dropped: list[int] = []
    shortest = iter([2_000])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target_port)
        upward = asyncio.create_task(_copy(reader, there_writer, None))
        limit = max(dice.randint(200, 6_000), next(shortest, 0))
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


async def work(fakes: Fakes, dropped: list[int]) -> None:
    """Work goes on until the line has broken often enough; a reader sees it happen."""
    while len(dropped) < CUTS:
        step = f"research{len(fakes.log.stored)}"
        await do_step(fakes.log, "r1", step=step, role="researcher", answer=RESEARCH)
        await asyncio.sleep(0)
        if len(fakes.log.stored) > 20 + 6 * len(dropped):
            await asyncio.sleep(0.01)  # the reader is behind: more to read would tell no more
    await complete(fakes.log, "r1")


def a_seed() -> int:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to try the same line again
    return seed


async def test_a_line_that_breaks_at_random_costs_no_event_and_doubles_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    seed = a_seed()
    fakes = Fakes()
    await submit(fakes.log)
    async with (
        gateway(fakes) as port,
        bad_line(port, random.Random(seed)) as (line, dropped),  # noqa: S311 - no secret
        await connect(line, fakes) as swarm,
        aclosing(swarm.run("r1").events()) as events,
    ):
        seen = [(await anext(events)).stream_sequence]
        working = asyncio.create_task(work(fakes, dropped))
        seen += [event.stream_sequence async for event in events]
        await working
    assert seen == [received.stream_sequence for received in fakes.log.stored]
    assert len(dropped) >= CUTS


class Frames:
    """Puts the frames of a stream together as the standard says, whole ones only."""

    def __init__(self) -> None:
        self._begun = b""

    def ids(self, piece: bytes) -> list[int]:
        *whole, self._begun = (self._begun + piece).split(b"\n\n")
        fields = [dict(line.split(b": ", 1) for line in frame.split(b"\n")) for frame in whole]
        shown = [frame for frame in fields if b"id" in frame]
        for frame in shown:
            assert json.loads(frame[b"data"])["stream_sequence"] == int(frame[b"id"])
        return [int(frame[b"id"]) for frame in shown]


async def read_some(
    client: httpx.AsyncClient, run: str, seen: list[int], limit: int | None
) -> bool:
    """Follow a run behind what was seen, for so many bytes; whether it was all there is."""
    frames, left = Frames(), limit
    headers = {HEADER: str(seen[-1])} if seen else {}
    async with client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as response:
        if response.status_code == httpx.codes.NO_CONTENT:
            return True
        assert response.status_code == httpx.codes.OK
        async for piece in response.aiter_raw():
            got = piece if left is None else piece[:left]
            seen += frames.ids(got)
            left = None if left is None else left - len(got)
            if left == 0:
                return False
    return True


@asynccontextmanager
async def a_long_run(log: EventLog, broker: Broker) -> AsyncIterator[asyncio.Queue[int]]:
    """A run on a real log: an event for each number in the queue, and its end behind a 0."""
    orders: asyncio.Queue[int] = asyncio.Queue()
    await log.append(submission("r1"))

    async def write() -> None:
        while number := await orders.get():
            payload = PauseRequested(requested_by="uma", reason=f"{number}" * (number % 40))
            await log.append(Draft(run="r1", payload=payload, id=derive_id("pause", str(number))))
        usage = Usage(prompt_tokens=0, completion_tokens=0)
        end = RunCompleted(document="# Done", steps=0, usage=usage)
        async with broker.joined("coordinator") as coordinator:
            await coordinator.append(Draft(run="r1", payload=end, id=derive_id("end")))

    async with in_background(write()):
        yield orders


@pytest.mark.timeout(400)
async def test_a_stream_of_a_real_log_is_cut_anywhere_and_goes_on_without_gap_or_repeat(
    broker: Broker,
) -> None:
    dice = random.Random(a_seed())  # noqa: S311 - no secret
    seen: list[int] = []
    async with broker.joined("gateway") as log, a_long_run(log, broker) as orders:
        fakes = Fakes(log=log)  # type: ignore[arg-type]
        as_admin = {"Authorization": f"Bearer {fakes.token('ada')}"}
        for number in range(1, 21):
            orders.put_nowait(number)
        async with (
            gateway(fakes) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers=as_admin,
                timeout=60,
            ) as client,
        ):
            for cut in range(CUTS):
                for number in range(3):  # about twice what a reader gets to see between two cuts
                    orders.put_nowait(21 + 3 * cut + number)
                assert not await read_some(client, "r1", seen, dice.randint(1, 2_000))
            assert len(seen) > 20
            orders.put_nowait(0)
            while not await read_some(client, "r1", seen, None):
                pass
        stored = [received.stream_sequence async for received in log.read(run_filter("r1"))]
    assert seen == stored
    assert len(stored) == 20 + 3 * CUTS + 2


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


async def test_an_answer_that_stands_in_the_object_store_is_followed_to_the_end() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    answer: dict[str, JsonValue] = {**RESEARCH, "findings": ["x" * LONG_CHARS]}
    await do_step(fakes.log, "r1", step="research", role="researcher", answer=answer)
    await complete(fakes.log, "r1")
    async with gateway(fakes) as port, await connect(port, fakes) as swarm:
        events = [event async for event in swarm.run("r1").events()]
        assert (await swarm.run("r1").wait(timeout_s=20)).status == "completed"
    assert [event.stream_sequence for event in events] == [1, 2, 3, 4, 5]
    assert (events[3].payload or {})["answer"] == answer


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
