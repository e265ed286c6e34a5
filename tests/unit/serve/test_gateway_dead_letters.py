"""Dead letters: what was given up is listed, and its run may be retried."""

from typing import Any

import pytest

from bus.payloads import AssignmentDead
from tests.unit.serve.fakes import Fakes, complete, fail, give_up, submit


async def a_dead_letter(fakes: Fakes, run: str = "r1") -> str:
    await submit(fakes.log, run)
    letter = await give_up(fakes.log, run)
    await fail(fakes.log, run)
    return letter


async def listed(fakes: Fakes, query: str = "") -> list[dict[str, Any]]:
    async with fakes.client("vic") as client:
        letters: list[dict[str, Any]] = (await client.get(f"/v1/dead-letters{query}")).json()[
            "dead_letters"
        ]
    return letters


async def test_a_dead_letter_says_what_was_given_up_and_why() -> None:
    fakes = Fakes()
    letter = await a_dead_letter(fakes)
    (found,) = await listed(fakes)
    assert found.pop("stored_at")
    assert found == {
        "id": letter,
        "run": "r1",
        "step": "research",
        "iteration": 1,
        "item": 0,
        "attempt": 1,
        "role": "researcher",
        "agent": "researcher-1",
        "deliveries": 5,
        "reason": "handed out 5 times, never brought to an end",
        "redriven": False,
    }


async def test_a_redrive_retries_the_run_once() -> None:
    fakes = Fakes()
    letter = await a_dead_letter(fakes)
    other = await a_dead_letter(fakes, "r2")
    async with fakes.client() as client:
        first = await client.post(f"/v1/dead-letters/{letter}/redrive", json={"reason": "fixed"})
        again = await client.post(f"/v1/dead-letters/{letter}/redrive")
        await complete(fakes.log, "r1")
        late = await client.post(f"/v1/dead-letters/{letter}/redrive")
    assert (first.status_code, first.json()["status"]) == (202, "running")
    assert (again.status_code, again.json()["status"]) == (202, "running")
    assert (late.status_code, late.json()["status"]) == (202, "completed")
    (retry,) = fakes.log.of_kind("retry.requested")
    assert retry.event.run == "r1"
    assert [(each["id"], each["redriven"]) for each in await listed(fakes)] == [
        (letter, True),
        (other, False),
    ]


async def test_a_run_that_fails_again_is_retried_again() -> None:
    fakes = Fakes()
    letter = await a_dead_letter(fakes)
    async with fakes.client() as client:
        await client.post(f"/v1/dead-letters/{letter}/redrive")
        await fail(fakes.log, "r1")
        answer = await client.post(f"/v1/dead-letters/{letter}/redrive")
    assert (answer.status_code, answer.json()["retries"]) == (202, 2)


async def test_a_run_that_has_not_failed_is_not_retried() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    letter = await give_up(fakes.log)
    async with fakes.client() as client:
        running = await client.post(f"/v1/dead-letters/{letter}/redrive")
        await complete(fakes.log, "r1")
        completed = await client.post(f"/v1/dead-letters/{letter}/redrive")
    assert running.status_code == completed.status_code == 409
    assert fakes.log.of_kind("retry.requested") == []


@pytest.mark.parametrize("letter", ["nothing", "*", "%3E", "a" * 100])
async def test_an_unknown_dead_letter_is_not_found(letter: str) -> None:
    fakes = Fakes()
    await a_dead_letter(fakes)
    async with fakes.client() as client:
        answer = await client.post(f"/v1/dead-letters/{letter}/redrive")
    assert answer.status_code == 404
    assert fakes.log.of_kind("retry.requested") == []


async def test_a_forged_dead_letter_is_not_listed_and_the_list_may_be_short() -> None:
    fakes = Fakes()
    for run in ("r1", "r2", "r3"):
        await a_dead_letter(fakes, run)
    await fakes.log.append_refused("r3", AssignmentDead.TYPE, "researcher")
    assert [each["run"] for each in await listed(fakes)] == ["r1", "r2", "r3"]
    assert [each["run"] for each in await listed(fakes, "?limit=2")] == ["r2", "r3"]
