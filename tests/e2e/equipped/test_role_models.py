"""Two models at once, chosen by role: a swarm of two scripted ones, which have other names."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from bus.errors import SwarmError
from swarm import AsyncSwarm
from swarm.errors import NotFound
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)

DEFAULT, OTHER = "scripted", "scripted-other"
OBJECTIVE = "Design a rate limiter for a public HTTP API"
HELLO = [{"role": "user", "content": "Say something."}]
RECOVERED_WITHIN_S = 60.0


@pytest.fixture
async def swarm(equipped: Shell) -> AsyncIterator[AsyncSwarm]:
    async with await AsyncSwarm.connect(home=equipped.home) as client:
        yield client


async def test_each_role_is_answered_by_its_own_model(swarm: AsyncSwarm) -> None:
    run = await swarm.submit(OBJECTIVE)
    status = await run.wait(90)
    assert status.status == "completed", status.failure
    asked = defaultdict(set)
    async with aclosing(run.events()) as events:
        async for event in events:
            if event.type == "swarm.step.completed.v1" and event.payload and event.source:
                role = event.source.removeprefix("swarm://").partition("/")[0]
                asked[role].add(event.payload["model"])
    assert asked.pop("coder") == asked.pop("judge") == {OTHER}
    assert set().union(*asked.values()) == {DEFAULT}
    assert {step.model for step in status.steps if step.role in ("coder", "judge")} == {OTHER}


async def test_the_gateway_lists_both_and_asks_the_one_that_is_named(
    equipped: Shell, swarm: AsyncSwarm
) -> None:
    assert (await swarm.chat(HELLO)).model == DEFAULT
    for name in (DEFAULT, OTHER):
        assert (await swarm.chat(HELLO, model=name)).model == name
    with pytest.raises(NotFound):
        await swarm.chat(HELLO, model="gpt-9")
    status = json.loads((await equipped.status()).out)
    assert status["parts"]["model"]["address"] == DEFAULT
    assert status["parts"][f"model-{OTHER}"]["healthy"]


async def test_the_death_of_one_leaves_the_other_going(equipped: Shell, swarm: AsyncSwarm) -> None:
    (victim,) = [
        process
        for process in equipped.processes()
        if any(f":model-{OTHER}:" in word for word in process.cmdline())
    ]
    victim.kill()
    assert (await swarm.chat(HELLO)).model == DEFAULT
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            try:
                answer = await swarm.chat(HELLO, model=OTHER)
            except SwarmError as error:
                if not error.retryable:
                    raise
            else:
                break
    assert answer.model == OTHER
