"""The memory of a whole swarm: people and runs write to it, and later runs read it."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from swarm import AsyncSwarm
from swarm.errors import ClientError, MemoryConflict, NotFound
from swarm.memory_view import MemorySearch
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)

NOTES = "shared/decisions"
RECOVERED_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.2


@pytest.fixture(scope="module")
async def shell() -> AsyncIterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="swarm-e2e-") as made:
        shell = Shell(
            home=Path(made) / "home",
            settings={"SWARM_GATEWAY_PORT": "0", "SWARM_DASHBOARD_PORT": "0"},
        )
        started = await shell.swarm("up", "--model", "scripted", deadline_s=240)
        assert started.code == 0, started
        yield shell
        stopped = await shell.swarm("down")
        assert stopped.code == 0, stopped


@pytest.fixture
async def swarm(shell: Shell) -> AsyncIterator[AsyncSwarm]:
    async with await AsyncSwarm.connect(home=shell.home) as client:
        yield client


async def found_by_meaning(swarm: AsyncSwarm, text: str) -> MemorySearch:
    """A search that both halves took part in: the index follows a moment after the write."""
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            try:
                search = await swarm.memory.search(text)
            except ClientError:
                search = None
            if search is not None and search.found and not search.degraded:
                return search
            await asyncio.sleep(LOOK_AGAIN_S)


async def test_what_was_decided_is_found_and_not_overwritten_unseen(swarm: AsyncSwarm) -> None:
    made = await swarm.memory.write(NOTES, "limiter", "A token bucket limits rates.", base=0)
    assert made.version == 1
    search = await found_by_meaning(swarm, "which token bucket for rates")
    assert [found.item.item for found in search.found] == ["limiter"]
    with pytest.raises(MemoryConflict) as late:
        await swarm.memory.write(NOTES, "limiter", "Something else.", base=0)
    assert late.value.current is not None
    assert late.value.current.content == "A token bucket limits rates."
    with pytest.raises(NotFound):
        await swarm.memory.read(NOTES, "nothing")


async def test_a_later_run_is_told_of_an_earlier_one_and_says_so(
    shell: Shell, swarm: AsyncSwarm
) -> None:
    first = await swarm.submit("Design a sundial for a garden")
    assert (await first.wait(90)).status == "completed"
    search = await found_by_meaning(swarm, "sundial for a garden")
    [episode] = [found.item for found in search.found if found.item.item == first.id]
    assert episode.kind == "episodic"
    second = await swarm.submit("Design a larger sundial for a garden")
    status = await second.wait(90)
    assert status.status == "completed"
    assert f"{episode.namespace}/{first.id}@1" in (status.result or "")
    recalled, ids = {}, {}
    async with aclosing(second.events()) as events:
        async for event in events:
            if event.type == "swarm.step.completed.v1" and event.payload:
                recalled[event.payload["step"]] = event.payload["recalled"]
                ids[event.payload["step"]] = event.id
    reference = {"namespace": episode.namespace, "item": first.id, "version": 1}
    assert reference in recalled["specification"]
    receipt = await shell.swarm("receipt", str(ids["specification"]))
    assert receipt.code == 0, receipt
    replayed = await shell.swarm("replay", second.id)
    assert replayed.code == 0, replayed


async def test_a_killed_keeper_comes_back_with_everything(shell: Shell, swarm: AsyncSwarm) -> None:
    await swarm.memory.write(NOTES, "before", "Written before the kill of the keeper.")
    shell.kill_actor("MemoryActor")
    search = await found_by_meaning(swarm, "written before the kill")
    assert "before" in [found.item.item for found in search.found]
    made = await swarm.memory.write(NOTES, "before", "Written after the kill.", base=1)
    assert made.version == 2


async def test_what_an_agent_wrote_is_hidden_by_a_quarantine_and_released(
    shell: Shell, swarm: AsyncSwarm
) -> None:
    made = await swarm.memory.write(NOTES, "trap", "Do as this says.")
    hidden = await shell.swarm(
        "memory", "quarantine", "gateway/gateway", "--since", made.event, "--json"
    )
    assert hidden.code == 0, hidden
    with pytest.raises(NotFound):
        await swarm.memory.read(NOTES, "trap")
    released = await shell.swarm("memory", "release", json.loads(hidden.out)["event"])
    assert released.code == 0, released
    assert (await swarm.memory.read(NOTES, "trap")).content == "Do as this says."


async def test_all_of_it_can_be_made_again(shell: Shell, swarm: AsyncSwarm) -> None:
    before = sorted([item async for item in swarm.memory.list()], key=lambda item: item.item)
    assert before
    for command in ("reindex", "rebuild"):
        made = await shell.swarm("memory", command)
        assert made.code == 0, made
    after = sorted([item async for item in swarm.memory.list()], key=lambda item: item.item)
    assert after == before
    assert await found_by_meaning(swarm, "token bucket")
