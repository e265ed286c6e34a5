"""Handing in runs, and seeing how far they are."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from bus.errors import PublishUnconfirmed
from bus.event import StoredEvent
from bus.payloads import RunCompleted, RunSubmitted
from serve.ports import Limits
from serve.routers.runs import run_id
from storage.audit_reader import AuditSummary
from tests.unit.serve.fakes import (
    MODEL,
    RESEARCH,
    Fakes,
    MemoryLog,
    complete,
    do_step,
    fail,
    submit,
)


async def test_a_run_that_is_handed_in_is_in_the_log_before_the_answer() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", json={"objective": "Write a parser."})
    assert answer.status_code == 202
    run = answer.json()["id"]
    assert answer.json() == {
        "id": run,
        "status": "submitted",
        "events_url": f"/v1/runs/{run}/events",
    }
    assert answer.headers["location"] == f"/v1/runs/{run}"
    (stored,) = fakes.log.stored
    assert isinstance(stored, StoredEvent)
    assert stored.event.run == run
    assert stored.event.on_behalf_of == "uma"
    assert stored.payload() == RunSubmitted(
        objective="Write a parser.", workflow="sparc", model=MODEL, requested_by="uma"
    )


async def test_two_requests_without_a_key_are_two_runs() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        first = await client.post("/v1/runs", json={"objective": "x"})
        second = await client.post("/v1/runs", json={"objective": "x"})
    assert first.json()["id"] != second.json()["id"]
    assert len(fakes.log.stored) == 2


async def test_a_repeat_with_the_same_key_is_the_same_run() -> None:
    fakes = Fakes()
    headers = {"Idempotency-Key": "mine-1"}
    async with fakes.client() as client:
        first = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
        second = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    assert first.json() == second.json()
    assert len(fakes.log.stored) == 1


async def test_a_repeat_that_the_broker_has_forgotten_is_still_the_same_run() -> None:
    class ForgetfulLog(MemoryLog):
        """Past the duplicate window only `expected` protects."""

        def _known(self, event_id: str) -> StoredEvent | None:
            return super()._known("") if event_id else None

    fakes = Fakes(log=ForgetfulLog())
    headers = {"Idempotency-Key": "mine-1"}
    async with fakes.client() as client:
        first = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
        second = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    assert first.json() == second.json()
    assert len(fakes.log.stored) == 1


async def test_a_key_belongs_to_its_user() -> None:
    fakes = Fakes()
    headers = {"Idempotency-Key": "k"}
    async with fakes.client("uma") as client:
        hers = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    async with fakes.client("ada") as client:
        other = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    assert hers.json()["id"] != other.json()["id"]
    assert run_id("ab", "c") != run_id("a", "bc")


async def test_a_key_is_not_used_for_two_different_requests() -> None:
    fakes = Fakes()
    headers = {"Idempotency-Key": "k"}
    async with fakes.client() as client:
        await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
        answer = await client.post("/v1/runs", json={"objective": "y"}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert len(fakes.log.stored) == 1


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({}, "objective", "required"),
        ({"objective": ""}, "objective", "at least 1"),
        ({"objective": " \n\t"}, "objective", "say something"),
        ({"objective": "a\0b"}, "objective", "NUL"),
        ({"objective": "\ud800"}, "objective", "unicode"),
        ({"objective": 7}, "objective", "string"),
        ({"objective": None}, "objective", "string"),
        ({"objective": "x" * 101}, "objective", "limit is 100"),
        ({"objective": "x", "workflow": "waterfall"}, "workflow", "there are sparc"),
        ({"objective": "x", "workflow": "../etc"}, "workflow", "there are sparc"),
        ({"objective": "x", "model": "gpt-9"}, "model", MODEL),
        ({"objective": "x", "run": "r1"}, "run", "not permitted"),
        ([], "body", "dictionary"),
        ("objective", "body", "dictionary"),
    ],
)
async def test_a_field_that_cannot_be_accepted_is_named(
    body: object, field: str, reason: str
) -> None:
    fakes = Fakes()
    content = json.dumps(body)
    async with fakes.client(limits=Limits(objective_chars=100)) as client:
        answer = await client.post(
            "/v1/runs", content=content, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert reason.lower() in error["reason"].lower()
    assert fakes.log.stored == []


async def test_refused_values_are_not_said_back() -> None:
    fakes = Fakes()
    body = {"objective": "sesame-objective", "workflow": "sesame", "model": ["sesame"]}
    async with fakes.client() as client:
        runs = await client.post("/v1/runs", json=body)
        login = await client.post("/auth/login", json={"username": 1, "password": ["sesame"]})
    assert runs.status_code == login.status_code == 422
    assert "sesame" not in runs.text
    assert "sesame" not in login.text


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"objective": "\xff"}', 400),
        (b'{"objective": ' + b"9" * 5_000 + b"}", 400),
    ],
)
async def test_what_is_not_json_is_refused_without_a_stack_trace(
    content: bytes, status: int
) -> None:
    fakes = Fakes()
    headers = {"Content-Type": "application/json"}
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["type"].startswith("urn:vllm-swarm:problem:")
    assert "Traceback" not in answer.text
    assert len(answer.content) < 1_000
    assert fakes.log.stored == []


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
async def test_a_body_of_another_kind_is_refused(content_type: str | None) -> None:
    fakes = Fakes()
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", content=b'{"objective":"x"}', headers=headers)
    assert answer.status_code == 415
    assert fakes.log.stored == []


async def test_a_body_over_the_limit_is_refused_by_its_length_and_while_it_is_read() -> None:
    fakes = Fakes()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65_536

    headers = {"Content-Type": "application/json"}
    async with fakes.client() as client:
        declared = await client.post("/v1/runs", content=b"x" * 300_000, headers=headers)
        streamed = await client.post("/v1/runs", content=endless(), headers=headers)
    assert declared.status_code == streamed.status_code == 413
    assert str(256 * 1024) in declared.json()["detail"]
    assert sent == 5
    assert fakes.log.stored == []


async def test_a_body_that_dribbles_is_cut_off() -> None:
    fakes = Fakes()
    never = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"objective":'
        while True:
            await never.wait()

    headers = {"Content-Type": "application/json"}
    async with fakes.client(limits=Limits(body_timeout_s=0.02)) as client:
        answer = await client.post("/v1/runs", content=stalled(), headers=headers)
    assert answer.status_code == 408


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "\u0663", "9" * 5_000])
async def test_a_nonsensical_length_is_refused(length: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": length}
    headers_raw = [(k.encode(), v.encode()) for k, v in headers.items()]
    async with Fakes().client() as client:
        answer = await client.post("/v1/runs", content=b"{}", headers=httpx.Headers(headers_raw))
    assert answer.status_code in (400, 413)


async def test_without_the_broker_a_run_is_refused_and_may_be_tried_again() -> None:
    fakes = Fakes()
    await fakes.log.break_down()
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", json={"objective": "x"})
        status = await client.get("/v1/runs/r1")
    assert answer.status_code == status.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["retryable"] is True
    assert fakes.log.stored == []


async def test_an_unconfirmed_publish_is_told_as_unavailable() -> None:
    class SilentLog(MemoryLog):
        async def append(self, *_: object, **__: object) -> StoredEvent:
            raise PublishUnconfirmed("no confirmation from 10.0.0.7")

    async with Fakes(log=SilentLog()).client() as client:
        answer = await client.post("/v1/runs", json={"objective": "x"})
    assert answer.status_code == 503
    assert "10.0.0.7" not in answer.text


async def test_a_log_that_hangs_is_given_up() -> None:
    class HangingLog(MemoryLog):
        async def append(self, *_: object, **__: object) -> StoredEvent:
            await asyncio.Event().wait()
            raise AssertionError

    limits = Limits(call_timeout_s=0.02)
    async with Fakes(log=HangingLog()).client(limits=limits) as client:
        answer = await client.post("/v1/runs", json={"objective": "x"})
    assert answer.status_code == 503


async def test_a_fault_of_ours_says_nothing_of_itself() -> None:
    class FaultyLog(MemoryLog):
        async def append(self, *_: object, **__: object) -> StoredEvent:
            raise ZeroDivisionError("secret detail")

    async with Fakes(log=FaultyLog()).client() as client:
        answer = await client.post("/v1/runs", json={"objective": "x"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("run", ["nothing", "r" * 65, "swarm", "a.b", "*", "%3E", "a%20b", "é"])
@pytest.mark.parametrize("suffix", ["", "/events", "/audit"])
async def test_an_unknown_or_malformed_run_is_not_found(run: str, suffix: str) -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with fakes.client() as client:
        answer = await client.get(f"/v1/runs/{run}{suffix}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


async def test_what_was_only_forged_is_not_a_run() -> None:
    fakes = Fakes()
    await fakes.log.append_refused("r9", RunSubmitted.TYPE)
    async with fakes.client() as client:
        assert (await client.get("/v1/runs/r9")).status_code == 404


async def test_the_status_of_a_run_is_what_its_log_says() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await submit(fakes.log, "r2")
    async with fakes.client() as client:
        fresh = (await client.get("/v1/runs/r1")).json()
        await do_step(fakes.log, "r1", step="research", role="researcher", answer=RESEARCH)
        worked = (await client.get("/v1/runs/r1")).json()
        await complete(fakes.log, "r1")
        ended = (await client.get("/v1/runs/r1")).json()
    assert (fresh["status"], fresh["steps"], fresh["requested_by"]) == ("running", [], "uma")
    (step,) = worked["steps"]
    assert step["name"] == "research"
    assert (step["iteration"], step["attempt"], step["role"]) == (1, 1, "researcher")
    assert (step["status"], step["agent"]) == ("completed", "researcher-1")
    assert step["duration_ms"] == 1_500
    assert step["usage"] == {"prompt_tokens": 30, "completion_tokens": 12}
    assert (ended["status"], ended["result"]) == ("completed", "# Done")
    assert ended["usage"] == {"prompt_tokens": 30, "completion_tokens": 12}
    assert ended["ended_at"] is not None
    assert ended["stream_sequence"] == len(fakes.log.stored)


async def test_a_failed_run_says_why() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert view["status"] == "failed"
    assert view["failure"] == {
        "code": "step_failed",
        "message": "No agent could.",
        "step": "research",
    }
    assert view["result"] is None


async def test_a_forged_end_does_not_end_a_run() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fakes.log.append_refused("r1", RunCompleted.TYPE)
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert (view["status"], view["result"]) == ("running", None)


async def test_the_audit_summary_is_that_of_the_audit_log() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    fakes.audit.summaries["r2"] = AuditSummary(
        run="r2", events=5, accepted=4, refused=1, tree_size=9, root="cd" * 32, checkpoint="note\n"
    )
    async with fakes.client("vic") as client:
        known = await client.get("/v1/runs/r2/audit")
        lagging = await client.get("/v1/runs/r1/audit")
    assert known.json() == {
        "run": "r2",
        "events": 5,
        "signatures_verified": 4,
        "refused": 1,
        "tree_size": 9,
        "root": "cd" * 32,
        "checkpoint": "note\n",
    }
    assert (lagging.status_code, lagging.json()["events"]) == (200, 0)


async def test_a_wrong_method_and_an_unknown_path_are_problems_too() -> None:
    async with Fakes().client() as client:
        method = await client.delete("/v1/runs/r1")
        path = await client.get("/v2/runs")
        slash = await client.get("/v1/models/")
    assert (method.status_code, method.headers["allow"]) == (405, "GET")
    assert path.status_code == slash.status_code == 404
    for answer in (method, path, slash):
        assert answer.headers["content-type"] == "application/problem+json"
