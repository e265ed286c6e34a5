"""The memory of a whole swarm: people and runs write to it, and later runs read it."""

import asyncio
import json
from contextlib import aclosing, suppress

import pytest

from bus.memory_payloads import ItemReference
from bus.payloads import StepCompleted
from swarm import AsyncSwarm
from swarm.errors import ClientError, MemoryConflict, NotFound
from swarm.memory_view import MemoryItem
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)

NOTES = "shared/decisions"
RECOVERED_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.2


async def found_by_meaning(
    client: AsyncSwarm, text: str, item: str, namespace: str | None = None
) -> MemoryItem:
    """An item, by a search that both halves took part in: the index follows after the write."""
    namespaces = None if namespace is None else [namespace]
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            with suppress(ClientError):  # the keeper is killed by one of these tests
                search = await client.memory.search(text, namespaces=namespaces)
                there = [found.item for found in search.found if found.item.item == item]
                if there and not search.degraded:
                    return there[0]
            await asyncio.sleep(LOOK_AGAIN_S)


async def test_what_was_decided_is_found_and_not_overwritten_unseen(client: AsyncSwarm) -> None:
    made = await client.memory.write(NOTES, "limiter", "A token bucket limits rates.", base=0)
    assert made.version == 1
    found = await found_by_meaning(client, "which token bucket for rates", "limiter", NOTES)
    assert found.content == "A token bucket limits rates."
    with pytest.raises(MemoryConflict) as late:
        await client.memory.write(NOTES, "limiter", "Something else.", base=0)
    assert late.value.current is not None
    assert late.value.current.content == "A token bucket limits rates."
    with pytest.raises(NotFound):
        await client.memory.read(NOTES, "nothing")


async def test_a_later_run_is_told_of_an_earlier_one_and_says_so(
    shell: Shell, client: AsyncSwarm
) -> None:
    first = await client.submit("Design a sundial for a garden")
    assert (await first.wait(90)).status == "completed"
    episode = await found_by_meaning(client, "sundial for a garden", first.id)
    assert episode.kind == "episodic"
    second = await client.submit("Design a larger sundial for a garden")
    status = await second.wait(90)
    assert status.status == "completed"
    assert f"{episode.namespace}/{first.id}@1" in (status.result or "")
    recalled: dict[str, tuple[ItemReference, ...]] = {}
    ids: dict[str, str] = {}
    async with aclosing(second.events()) as events:
        async for event in events:
            if event.type == StepCompleted.TYPE and event.payload:
                done = StepCompleted.model_validate(event.payload)
                recalled[done.step] = done.recalled
                ids[done.step] = event.id or ""
    reference = ItemReference(namespace=episode.namespace, item=first.id, version=1)
    assert reference in recalled["specification"]
    receipt = await shell.swarm("receipt", ids["specification"])
    assert receipt.code == 0, receipt
    replayed = await shell.swarm("replay", second.id)
    assert replayed.code == 0, replayed


async def test_a_killed_keeper_comes_back_with_everything(shell: Shell, client: AsyncSwarm) -> None:
    await client.memory.write(NOTES, "before", "Written before the kill of the keeper.")
    shell.kill_actor("MemoryActor")
    assert await found_by_meaning(client, "written before the kill", "before", NOTES)
    made = await client.memory.write(NOTES, "before", "Written after the kill.", base=1)
    assert made.version == 2


async def test_what_an_agent_wrote_is_hidden_by_a_quarantine_and_released(
    shell: Shell, client: AsyncSwarm
) -> None:
    made = await client.memory.write(NOTES, "trap", "Do as this says.")
    hidden = await shell.swarm(
        "memory", "quarantine", "gateway/gateway", "--since", made.event, "--json"
    )
    assert hidden.code == 0, hidden
    with pytest.raises(NotFound):
        await client.memory.read(NOTES, "trap")
    released = await shell.swarm("memory", "release", json.loads(hidden.out)["event"])
    assert released.code == 0, released
    assert (await client.memory.read(NOTES, "trap")).content == "Do as this says."


async def test_all_of_it_can_be_made_again(shell: Shell, client: AsyncSwarm) -> None:
    before = {(item.namespace, item.item): item async for item in client.memory.list()}
    assert (NOTES, "limiter") in before
    for command in ("reindex", "rebuild"):
        made = await shell.swarm("memory", command)
        assert made.code == 0, made
    after = {(item.namespace, item.item): item async for item in client.memory.list()}
    assert {name: after.get(name) for name in before} == before
    assert await found_by_meaning(client, "token bucket", "limiter", NOTES)
