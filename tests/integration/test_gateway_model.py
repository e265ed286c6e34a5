"""The gateway on Ray Serve with OpenAI's client before it and the scripted engine behind it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from itertools import pairwise
from typing import Any

import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionMessageParam

from cluster import ports
from serve.profile import load_profile
from tests.gateway_app import deploy_gateway, in_work, program, until
from tests.local_ray import serving_ray
from tests.unit.serve.quiet_ray import serve

pytestmark = pytest.mark.timeout(300)

MODEL = "scripted"
AT_ONCE, QUEUED = 4, 8
TOO_MANY = 200
LET_IN = TOO_MANY // 4
"""At most: Serve does not count as waiting who is on the way to a replica, and a busy machine
has more of them."""
ROUNDS = 6
QUIET_S = 3.0
PROMPT = "x" * 100_000
ASKED: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story."}]}


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    """Of a gateway whose model takes four at a time and ten minutes for each."""
    profile = load_profile("scripted").model_copy(
        update={
            "delay_s": 600.0,
            "max_ongoing_requests": AT_ONCE,
            "max_queued_requests": QUEUED,
        }
    )
    http_port = ports.drawn()
    with serving_ray(num_cpus=4, http_port=http_port):
        from serve.llm import build_model_app  # noqa: PLC0415  # imports Ray

        app = build_model_app(profile, "")
        await asyncio.to_thread(serve.run, app, name="model", route_prefix=None)
        await asyncio.to_thread(deploy_gateway, MODEL)
        yield http_port


@pytest.fixture
async def client(port: int) -> AsyncIterator[openai.AsyncOpenAI]:
    async with program(port) as made:
        yield made
        await until(0, deadline_s=10.0)


async def test_a_client_that_hangs_up_on_a_stream_frees_the_engine(
    client: openai.AsyncOpenAI,
) -> None:
    streams = [
        await client.chat.completions.create(**ASKED, stream=True)
        for _ in range(AT_ONCE - 1)  # the last place is for who asks how many there are
    ]
    for stream in streams:
        assert (await anext(aiter(stream))).choices
    assert await in_work() == AT_ONCE - 1
    for stream in streams:
        await stream.close()
    await until(0)


async def test_a_client_that_hangs_up_before_its_answer_frees_the_engine(
    client: openai.AsyncOpenAI,
) -> None:
    asking = asyncio.create_task(client.chat.completions.create(**ASKED))
    await until(1, deadline_s=10.0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(0)


async def test_more_than_may_wait_are_told_to_come_again_and_cost_no_memory(
    client: openai.AsyncOpenAI,
) -> None:
    """Each brings 100 KB; held for no longer than the answer takes, they add up to nothing.

    An allocator keeps what it once needed, so a round may leave something behind, but not all of
    them: what is held on to would be there after each.
    """
    gateway = _replica()
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]

    async def ask() -> str:
        try:
            await client.chat.completions.create(model=MODEL, messages=messages)
        except openai.RateLimitError as error:
            return f"{error.code}, come again in {error.response.headers['Retry-After']} s"
        return "answered"

    told: Counter[str] = Counter()
    sizes = [gateway.memory_info().rss]
    for _ in range(ROUNDS):
        told += await _refused(ask, TOO_MANY)
        sizes.append(gateway.memory_info().rss)
    grown = [after - before for before, after in pairwise(sizes)]
    shown = ", ".join(f"{each / 2**20:.1f}" for each in grown)
    print(f"gateway grew by {shown} MiB in rounds of {TOO_MANY} requests")  # noqa: T201
    assert set(told) == {"too_many_requests, come again in 1 s"}
    assert told.total() >= ROUNDS * (TOO_MANY - LET_IN)
    assert min(grown) < (TOO_MANY - LET_IN) * len(PROMPT)


async def _refused(ask: Callable[[], Coroutine[None, None, str]], number: int) -> Counter[str]:
    """Ask so often at once; those that are let in are given up, the others counted."""
    asking = {asyncio.create_task(ask()) for _ in range(number)}
    done: set[asyncio.Task[str]] = set()
    was = -1
    while not done or len(done) != was:
        was = len(done)
        done, _ = await asyncio.wait(asking, timeout=QUIET_S)
    for task in asking - done:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await until(0, deadline_s=10.0)
    return Counter(task.result() for task in done)


def _replica() -> psutil.Process:
    """The process of the gateway."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a worker of Ray's that has ended, a zombie too
            if "ServeReplica:gateway" in " ".join(process.cmdline()):
                found.append(process)
    assert len(found) == 1
    return found[0]
