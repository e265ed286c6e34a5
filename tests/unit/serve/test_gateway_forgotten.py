"""What the gateway does about people who were forgotten, and of what was said for them."""

import json

import pytest

from tests.unit.serve.fakes import UMA, Fakes, complete, fail, submit


async def test_who_is_forgotten_hands_in_nothing() -> None:
    fakes = Fakes()
    fakes.log.forgotten.add(UMA)
    async with fakes.client("uma") as client:
        answer = await client.post("/v1/runs", json={"objective": "Write a poem"})
    assert answer.status_code == 403
    assert "forgotten" in answer.json()["detail"]
    assert fakes.log.of_kind("run.submitted") == []


@pytest.mark.parametrize(("verb", "body"), [("retry", {}), ("fork", {"at": "1"})])
async def test_nobody_goes_on_from_what_is_erased(verb: str, body: dict[str, str]) -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    fakes.log.erase()
    stored = len(fakes.log.stored)
    async with fakes.client("uma") as client:
        answer = await client.post(f"/v1/runs/r1/{verb}", json=body)
    assert answer.status_code == 409
    assert "erased" in answer.json()["detail"]
    assert len(fakes.log.stored) == stored


async def test_an_erased_event_is_shown_as_such() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    fakes.log.erase()
    async with fakes.client("uma") as client:
        answer = await client.get("/v1/runs/r1/events")
    told = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: ")
    ]
    assert [event["erased"] for event in told] == [True, True]


async def test_a_fork_is_about_whom_its_parent_is_about() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    async with fakes.client("ada") as client:
        answer = await client.post("/v1/runs/r1/fork", json={"at": "1"})
    assert answer.status_code == 202, answer.text
    parent, fork = fakes.log.of_kind("run.submitted")
    assert parent.event.sealed_for == fork.event.sealed_for == UMA
    assert fork.event.on_behalf_of != UMA
