"""Handing in runs, and seeing how far they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from actors.definition import definition_of
from actors.sparc import SPARC
from actors.workflow import StepSpec, WorkflowSpec
from bus.errors import PublishUnconfirmed
from bus.event import StoredEvent
from bus.payloads import RunCompleted, RunSubmitted
from bus.subjects import tenant_of
from policies.budgets import run_budget, tokens_limit
from policies.caller import Caller
from policies.capabilities import Capabilities
from policies.roles import Role
from serve.ports import Limits
from serve.routers.runs import run_id
from storage.audit_reader import AuditSummary
from storage.run_owners import RunOwner
from tests.unit.serve.fakes import (
    MODEL,
    RESEARCH,
    UMA,
    Fakes,
    MemoryLog,
    ask_approval,
    cancelled,
    complete,
    do_step,
    fail,
    submit,
)

ASKING = WorkflowSpec(
    name="asking", nodes=(StepSpec(name="research", role="researcher", approval=True),)
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
    assert stored.event.on_behalf_of == UMA
    assert stored.payload() == RunSubmitted(
        objective="Write a parser.",
        workflow="sparc",
        model=MODEL,
        requested_by="uma",
        definition=definition_of(SPARC),
        budget=run_budget(Capabilities.shipped(), (step.role for step in SPARC.steps())),
    )


async def test_what_a_person_says_of_a_run_is_in_the_log_with_it() -> None:
    fakes = Fakes()
    body = {
        "objective": "Write a parser.",
        "priority": "high",
        "deadline_s": 90,
        "instructions": {"code": "No dependencies."},
    }
    async with fakes.client() as client:
        run = (await client.post("/v1/runs", json=body)).json()["id"]
        view = (await client.get(f"/v1/runs/{run}")).json()
    (stored,) = fakes.log.of_kind("run.submitted")
    payload = stored.payload()
    assert isinstance(payload, RunSubmitted)
    assert (payload.priority, payload.deadline_s) == ("high", 90.0)
    assert payload.instructions == {"code": "No dependencies."}
    assert view["priority"] == "high"
    allowed = datetime.fromisoformat(view["deadline_at"]) - stored.event.time
    assert allowed.total_seconds() == 90.0


async def test_a_workflow_that_was_declared_anew_does_not_make_a_repeat_another_request() -> None:
    fakes = Fakes()
    headers = {"Idempotency-Key": "k"}
    async with fakes.client() as client:
        first = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    fakes.workflows["sparc"] = replace(SPARC, nodes=SPARC.nodes[:1])
    async with fakes.client() as client:
        second = await client.post("/v1/runs", json={"objective": "x"}, headers=headers)
    assert second.status_code == 202
    assert first.json() == second.json()
    assert len(fakes.log.stored) == 1


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
    assert run_id(somebody("ab"), "c") != run_id(somebody("a"), "bc")


async def test_the_id_of_a_run_names_its_tenant() -> None:
    assert run_id(somebody("u", tenant="acme"), "k") == f"acme_{run_id(somebody('u'), 'k')}"
    assert tenant_of(run_id(somebody("u", tenant="acme"), None)) == "acme"
    assert tenant_of(run_id(somebody("u"), None)) is None


def somebody(user: str, tenant: str = "default") -> Caller:
    later = datetime.now(UTC) + timedelta(hours=1)
    return Caller(user=user, username="u", tenant=tenant, role=Role.USER, expires_at=later)


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
        ({"objective": "x", "priority": "urgent"}, "priority", "'high', 'normal' or 'low'"),
        ({"objective": "x", "priority": None}, "priority", "'high', 'normal' or 'low'"),
        ({"objective": "x", "deadline_s": 0}, "deadline_s", "greater than 0"),
        ({"objective": "x", "deadline_s": -1}, "deadline_s", "greater than 0"),
        ({"objective": "x", "deadline_s": 1e9}, "deadline_s", "less than or equal"),
        ({"objective": "x", "deadline_s": float("inf")}, "deadline_s", "less than or equal"),
        ({"objective": "x", "deadline_s": float("nan")}, "deadline_s", "input should be"),
        ({"objective": "x", "deadline_s": "soon"}, "deadline_s", "number"),
        ({"objective": "x", "instructions": {"swim": "x"}}, "instructions", "the steps of sparc"),
        ({"objective": "x", "instructions": {"code": "x" * 101}}, "instructions", "limit is 100"),
        ({"objective": "x", "instructions": {"code": "a\0"}}, "instructions", "NUL"),
        ({"objective": "x", "instructions": {"code": 7}}, "instructions.code", "string"),
        ({"objective": "x", "instructions": ["x"]}, "instructions", "dictionary"),
        ({"objective": "x", "definition": {}}, "definition", "not permitted"),
        ([], "body", "dictionary"),
        ("objective", "body", "dictionary"),
    ],
)
async def test_a_field_that_cannot_be_accepted_is_named(
    body: object, field: str, reason: str
) -> None:
    fakes = Fakes()
    content = json.dumps(body)
    async with fakes.client(limits=Limits(objective_chars=100, instructions_chars=100)) as client:
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
        "budget": None,
    }
    assert view["result"] is None


async def test_a_cancelled_run_says_by_whom_and_has_no_result() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await cancelled(fakes.log, "r1")
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert (view["status"], view["result"], view["failure"]) == ("cancelled", None, None)
    assert view["cancellation"] == {"requested_by": "uma", "reason": "no need"}
    assert view["ended_at"] is not None


async def test_a_run_says_what_it_waits_for_until_it_has_ended() -> None:
    fakes = Fakes()
    await submit(fakes.log, workflow="asking", definition=definition_of(ASKING))
    async with fakes.client() as client:
        fresh = (await client.get("/v1/runs/r1")).json()["waits_for"]
        approval = await ask_approval(fakes.log)
        asking = (await client.get("/v1/runs/r1")).json()["waits_for"]
        await fail(fakes.log, "r1")
        ended = (await client.get("/v1/runs/r1")).json()["waits_for"]
    assert fresh["code"] == "decision"
    assert (asking["code"], asking["step"]) == ("approval", "research")
    assert approval in asking["text"]
    assert ended is None


async def test_a_fork_names_the_run_that_it_branched_off_from() -> None:
    fakes = Fakes()
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    adopted = {"step": "research", "iteration": 1, "event": "e1", "answer": RESEARCH}
    fork = {"parent": "r0", "at": "e1", "adopted": [{**adopted, "model": MODEL, "usage": usage}]}
    await submit(fakes.log, fork=fork)
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert view["parent"] == {"run": "r0", "at": "e1"}
    (step,) = view["steps"]
    assert (step["name"], step["status"], step["adopted"]) == ("research", "completed", True)


async def test_the_parts_of_a_fan_out_are_told_apart() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    for item in (1, 2):
        await do_step(
            fakes.log, "r1", step="research", role="researcher", answer=RESEARCH, item=item
        )
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert [(step["name"], step["item"]) for step in view["steps"]] == [
        ("research", 1),
        ("research", 2),
    ]


async def test_the_newest_runs_are_listed_with_how_they_stand() -> None:
    fakes = Fakes()
    for run in ("r1", "r2", "r3", "r4"):
        await submit(fakes.log, run)
    await complete(fakes.log, "r2")
    await cancelled(fakes.log, "r3")
    await fakes.log.append_refused("r5", RunSubmitted.TYPE)
    async with fakes.client("vic") as client:
        every = (await client.get("/v1/runs")).json()["runs"]
        newest = (await client.get("/v1/runs?limit=1")).json()["runs"]
        none = await client.get("/v1/runs?limit=0")
    assert [(run["id"], run["status"]) for run in every] == [
        ("r1", "running"),
        ("r2", "completed"),
        ("r3", "cancelled"),
        ("r4", "running"),
    ]
    assert newest == every[-1:]
    assert (newest[0]["objective"], newest[0]["requested_by"]) == ("Write a parser.", "uma")
    assert none.status_code == 422


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
        run="r2",
        events=5,
        accepted=4,
        refused=1,
        tree_size=9,
        root="cd" * 32,
        checkpoint="note\n",
        cosigned="cosigned note\n",
    )
    fakes.owners.owners["r2"] = RunOwner(user=UMA, tenant="default")
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
        "cosigned": "cosigned note\n",
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


async def test_a_run_carries_the_budget_of_the_policy_and_of_its_user() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        whole = await client.post("/v1/runs", json={"objective": "x"})
        narrow = await client.post("/v1/runs", json={"objective": "x", "budget_tokens": 500})
    assert (whole.status_code, narrow.status_code) == (202, 202)
    payloads = [each.payload() for each in fakes.log.of_kind("run.submitted")]
    budgets = [payload.budget for payload in payloads if isinstance(payload, RunSubmitted)]
    limit = tokens_limit(Capabilities.shipped())
    assert [budget.tokens for budget in budgets if budget] == [limit, 500]
    assert all(budget and "coder" in budget.roles for budget in budgets)


@pytest.mark.parametrize("tokens", [0, -1, 10**12, "many"])
async def test_a_budget_beyond_the_policys_is_refused(tokens: object) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", json={"objective": "x", "budget_tokens": tokens})
    assert answer.status_code == 422
    assert "budget_tokens" in answer.text
    assert not fakes.log.of_kind("run.submitted")


async def test_a_run_whose_cost_cannot_be_told_is_refused_where_the_cost_is_limited() -> None:
    fakes = Fakes()
    fakes.policy = Capabilities(
        b"version: 1\nroles: {coordinator: {spend: {tokens_per_run: 9, cost_per_run: 1}}}"
    )
    async with fakes.client() as client:
        answer = await client.post("/v1/runs", json={"objective": "x"})
    assert answer.status_code == 422
    assert "has no price" in answer.text
