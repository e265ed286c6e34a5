"""Branching off over HTTP, and the log of a run as it is stored."""

import base64
import json
from datetime import datetime

import pytest
from pydantic import JsonValue

from bus.event import Event, StoredEvent
from bus.payloads import RunSubmitted
from bus.received import Received
from bus.trust import TrustStore, verify
from policies.capabilities import Capabilities
from tests.unit.serve.fakes import MODEL, RESEARCH, Fakes, complete, do_step, fail, submit


async def parent(fakes: Fakes) -> list[StoredEvent]:
    """A run with one answer that ended."""
    await submit(fakes.log, "r1")
    await do_step(fakes.log, "r1", step="research", role="researcher", answer=RESEARCH)
    await complete(fakes.log, "r1")
    return [each for each in fakes.log.stored if isinstance(each, StoredEvent)]


def submission_of(stored: list[Received], run: str) -> RunSubmitted:
    payload = next(
        each.payload()
        for each in stored
        if isinstance(each, StoredEvent)
        and each.event.run == run
        and each.event.type == RunSubmitted.TYPE
    )
    assert isinstance(payload, RunSubmitted)
    return payload


async def test_a_fork_is_in_the_log_before_the_answer_and_cites_its_parent() -> None:
    fakes = Fakes()
    events = await parent(fakes)
    at = events[-1].event.id
    async with fakes.client() as client:
        answer = await client.post(
            "/v1/runs/r1/fork",
            json={
                "at": at,
                "set": {"objective": "Write another.", "research.risks.0": "Many."},
                "instructions": {"code": "Use Go."},
            },
        )
        assert answer.status_code == 202, answer.text
        told = answer.json()
        status = await client.get(answer.headers["location"])
    assert told["parent"] == "r1"
    assert told["at"] == at
    assert told["shared"] == [
        {
            "step": "research",
            "iteration": 1,
            "item": 0,
            "event": events[3].event.id,
            "changed": True,
        }
    ]
    assert [each["name"] for each in told["changed"]] == ["objective", "instructions"]
    payload = submission_of(fakes.log.stored, told["id"])
    assert payload.fork is not None
    assert payload.fork.parent == "r1"
    assert payload.requested_by == "uma"
    assert payload.model == MODEL
    assert payload.objective == "Write another."
    assert payload.fork.adopted[0].answer == {**RESEARCH, "risks": ["Many."]}
    assert status.json()["parent"] == {"run": "r1", "at": at}
    assert status.json()["steps"][0]["adopted"] is True


async def test_the_same_key_is_the_same_fork() -> None:
    fakes = Fakes()
    events = await parent(fakes)
    body = {"at": events[0].event.id}
    headers = {"Idempotency-Key": "mine"}
    async with fakes.client() as client:
        first = await client.post("/v1/runs/r1/fork", json=body, headers=headers)
        second = await client.post("/v1/runs/r1/fork", json=body, headers=headers)
        other = await client.post(
            "/v1/runs/r1/fork", json={"at": events[-1].event.id}, headers=headers
        )
    assert first.json() == second.json()
    assert other.status_code == 422
    assert "Idempotency-Key" in other.text


@pytest.mark.parametrize(
    ("run", "body", "status", "reason"),
    [
        ("r9", {"at": "1"}, 404, "no run"),
        ("swarm", {"at": "1"}, 404, "no run"),
        ("r1", {}, 422, "at"),
        ("r1", {"at": "0" * 32}, 422, "no such event"),
        ("r1", {"at": "6"}, 422, "no such event"),
        ("r1", {"at": "4", "nonsense": 1}, 422, "nonsense"),
        ("r1", {"at": "4", "set": {"nonsense.x": 1}}, 422, "no step"),
        ("r1", {"at": "4", "set": {"workflow": "x"}}, 422, "cannot be set"),
        ("r1", {"at": "4", "set": {"research.findings": 7}}, 422, "does not fit"),
        ("r1", {"at": "4", "set": {"objective": "  "}}, 422, "must say something"),
        ("r1", {"at": "4", "set": {"objective": "a\0b"}}, 422, "NUL"),
        ("r1", {"at": "4", "set": {"research.findings": ["a\0b"]}}, 422, "NUL"),
        ("r1", {"at": "4", "set": {"deadline_s": 1e9}}, 422, "deadline_s"),
        ("r1", {"at": "4", "set": {"deadline_s": "soon"}}, 422, "deadline_s"),
        ("r1", {"at": "4", "set": {"priority": "top"}}, 422, "priority"),
        ("r1", {"at": "4", "instructions": {"nonsense": "x"}}, 422, "no step"),
        ("r1", {"at": "4", "instructions": {"research": "x"}}, 422, "keeps its answer"),
        ("r1", {"at": "4", "instructions": {"code": "x" * 20_000}}, 422, "instructions"),
    ],
)
async def test_what_cannot_be_forked_is_refused_and_nothing_is_stored(
    run: str, body: dict[str, JsonValue], status: int, reason: str
) -> None:
    fakes = Fakes()
    await parent(fakes)
    await submit(fakes.log, "r2")
    before = len(fakes.log.stored)
    async with fakes.client() as client:
        answer = await client.post(f"/v1/runs/{run}/fork", json=body)
    assert answer.status_code == status, answer.text
    assert reason in answer.text
    assert len(fakes.log.stored) == before


async def test_a_viewer_may_not_fork() -> None:
    fakes = Fakes()
    await parent(fakes)
    async with fakes.client("vic") as client:
        answer = await client.post("/v1/runs/r1/fork", json={"at": "1"})
    assert answer.status_code == 403


async def test_a_failed_run_can_be_forked() -> None:
    fakes = Fakes()
    await submit(fakes.log, "r1")
    await do_step(fakes.log, "r1", step="research", role="researcher", answer=RESEARCH)
    await fail(fakes.log, "r1")
    async with fakes.client() as client:
        answer = await client.post("/v1/runs/r1/fork", json={"at": "5"})
    assert answer.status_code == 202
    assert [each["step"] for each in answer.json()["shared"]] == ["research"]


async def test_the_raw_log_verifies_with_the_operators_public_key_alone() -> None:
    fakes = Fakes()
    await parent(fakes)
    await fakes.log.append_refused("r1", "swarm.run.completed.v1")
    async with fakes.client("vic") as client:
        answer = await client.get("/v1/runs/r1/log")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["stream_sequence"] for line in lines] == list(range(1, 7))
    authority = fakes.log._authority
    trust = TrustStore(authority.operator_public_key, authority.account_jwt)
    for sender in fakes.log._senders.values():
        trust.admit(sender.credential.jwt, 1)
    for line in lines[:-1]:
        event = Event.parse(line["subject"], line["headers"], base64.b64decode(line["data"]))
        verify(
            event,
            trust.find(event.key),
            Capabilities.shipped(),
            stream_sequence=line["stream_sequence"],
            stored_at=datetime.fromisoformat(line["stored_at"]),
        )
    assert base64.b64decode(lines[-1]["data"]) == b'{"document": "forged"}'


async def test_there_is_no_raw_log_of_what_is_no_run() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        for run in ("r1", "swarm", "a.b"):
            assert (await client.get(f"/v1/runs/{run}/log")).status_code == 404
