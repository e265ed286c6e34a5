"""`swarm receipt` on a whole swarm."""

import json
from contextlib import aclosing

import pytest

from serve.scripted import engine
from swarm import AsyncSwarm
from swarm.view import RunEvent
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)


async def answers_of(client: AsyncSwarm) -> list[RunEvent]:
    """The answers of a run that has ended."""
    run = await client.submit("Design a rate limiter for a public HTTP API")
    await run.wait(60)
    async with aclosing(run.events()) as events:
        return [event async for event in events if event.type == "swarm.step.completed.v1"]


async def test_an_answer_is_asked_for_again_and_matches(shell: Shell, client: AsyncSwarm) -> None:
    first, *_, last = await answers_of(client)
    assert first.id is not None
    told = await shell.swarm("receipt", first.id, "--json")
    assert told.code == 0, told
    document = json.loads(told.out)
    assert document["match"]
    assert (document["again"], document["at_temperature_0"]) == ("", "")
    assert document["receipt"]["weights"] == document["now"]["weights"] == engine().weights
    assert document["receipt"]["temperature"] == pytest.approx(0.2)
    by_place = await shell.swarm("receipt", str(last.stream_sequence))
    assert by_place.code == 0, by_place
    print(by_place.out)
    assert by_place.out.splitlines()[-1] == "match"
    assert engine().weights in by_place.out


async def test_what_is_no_answer_cannot_be_asked_for_again(shell: Shell) -> None:
    unknown = await shell.swarm("receipt", "0" * 32)
    assert unknown.code == 2, unknown
    assert "no answer" in unknown.err


async def test_the_doctor_looks_at_who_gave_the_latest_answers(
    shell: Shell, client: AsyncSwarm
) -> None:
    assert await answers_of(client)
    told = await shell.swarm("doctor")
    (line,) = [line for line in told.out.splitlines() if "model identity" in line]
    assert line.startswith("ok   model identity: "), told
    assert " 0 answers" not in line
    status = json.loads((await shell.swarm("status", "--json")).out)
    assert status["log"]["swapped_models"] == []
