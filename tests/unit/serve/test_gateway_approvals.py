"""Approvals: what waits for a person, and that only one answer counts."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from bus.errors import PublishConflict
from bus.event import Draft, StoredEvent
from bus.log import Expected
from bus.payloads import ApprovalDenied, ApprovalGiven, ApprovalRequested
from tests.unit.serve.fakes import UMA, Fakes, MemoryLog, ask_approval, cancelled, fail, submit
from tests.unit.serve.test_gateway_control import AS_JSON, BAD_REASONS


async def asked(fakes: Fakes, run: str = "r1", step: str = "research") -> str:
    await submit(fakes.log, run)
    return await ask_approval(fakes.log, run, step)


async def answer(
    fakes: Fakes, approval: str, verb: str, body: Any = None, name: str = "uma"
) -> httpx.Response:
    if body is None:
        body = {"reason": "too dear"} if verb == "deny" else {}
    async with fakes.client(name) as client:
        return await client.post(f"/v1/approvals/{approval}/{verb}", json=body)


async def listed(fakes: Fakes, query: str = "") -> list[dict[str, Any]]:
    async with fakes.client("vic") as client:
        response = await client.get(f"/v1/approvals{query}")
    assert response.status_code == 200
    approvals: list[dict[str, Any]] = response.json()["approvals"]
    return approvals


def answers(log: MemoryLog) -> list[StoredEvent]:
    return log.of_kind("approval.given") + log.of_kind("approval.denied")


async def test_what_waits_for_a_person_is_listed_over_all_runs() -> None:
    fakes = Fakes()
    first = await asked(fakes)
    second = await asked(fakes, "r2", "code")
    await fakes.log.append_refused("r2", ApprovalRequested.TYPE)
    found = await listed(fakes)
    assert [(each["id"], each["run"], each["step"]) for each in found] == [
        (first, "r1", "research"),
        (second, "r2", "code"),
    ]
    assert {each["status"] for each in found} == {"pending"}
    async with fakes.client() as client:
        view = (await client.get("/v1/runs/r1")).json()
    assert view["approvals"] == found[:1]


@pytest.mark.parametrize(
    ("verb", "status", "kind"),
    [("approve", "given", ApprovalGiven), ("deny", "denied", ApprovalDenied)],
)
async def test_an_answer_is_in_the_log_before_it_is_confirmed(
    verb: str, status: str, kind: type[ApprovalGiven | ApprovalDenied]
) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    response = await answer(fakes, approval, verb, {"reason": "I have read it"})
    assert response.status_code == 202
    view = response.json()
    assert (view["id"], view["status"], view["answered_by"]) == (approval, status, "uma")
    assert view["reason"] == "I have read it"
    (stored,) = answers(fakes.log)
    assert stored.payload() == kind(requested_by="uma", reason="I have read it", approval=approval)
    assert (stored.event.cause, stored.event.on_behalf_of) == (approval, UMA)
    assert await listed(fakes) == []
    assert await listed(fakes, f"?status={status}") == [view]
    assert await listed(fakes, "?status=all") == [view]


async def test_approvals_are_listed_by_status() -> None:
    fakes = Fakes()
    given, denied = await asked(fakes, "r1"), await asked(fakes, "r2")
    pending, lapsed = await asked(fakes, "r3"), await asked(fakes, "r4")
    await answer(fakes, given, "approve")
    await answer(fakes, denied, "deny")
    await cancelled(fakes.log, "r4")
    by_status = {
        status: [each["id"] for each in await listed(fakes, f"?status={status}")]
        for status in ("given", "denied", "pending", "lapsed", "all")
    }
    assert by_status == {
        "given": [given],
        "denied": [denied],
        "pending": [pending],
        "lapsed": [lapsed],
        "all": [given, denied, pending, lapsed],
    }
    assert [each["id"] for each in await listed(fakes, "?status=all&limit=2")] == [pending, lapsed]


@pytest.mark.parametrize("query", ["?status=maybe", "?limit=0", "?limit=1001", "?limit=x"])
async def test_a_question_that_cannot_be_is_refused(query: str) -> None:
    async with Fakes().client() as client:
        assert (await client.get(f"/v1/approvals{query}")).status_code == 422


@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_the_same_answer_twice_is_one(verb: str) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    first = await answer(fakes, approval, verb)
    second = await answer(fakes, approval, verb, name="ada")
    assert first.status_code == second.status_code == 202
    assert second.json() == first.json()
    assert len(answers(fakes.log)) == 1


@pytest.mark.parametrize(("first", "second"), [("approve", "deny"), ("deny", "approve")])
async def test_another_answer_is_refused(first: str, second: str) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    await answer(fakes, approval, first, name="ada")
    refused = await answer(fakes, approval, second)
    assert refused.status_code == 409
    assert "by Ada" in refused.json()["detail"]
    assert len(answers(fakes.log)) == 1


@pytest.mark.parametrize("forgetful", [False, True])
async def test_of_two_people_who_decide_at_once_one_does(*, forgetful: bool) -> None:
    class ForgetfulLog(MemoryLog):
        """Past the duplicate window only `expected` protects."""

        def _known(self, event_id: str) -> StoredEvent | None:
            return None if forgetful else super()._known(event_id)

    class Both(ForgetfulLog):
        """Nobody gets to store an answer before all have looked."""

        def __init__(self) -> None:
            super().__init__()
            self.together = asyncio.Barrier(2)

        async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
            if draft.payload.TYPE in (ApprovalGiven.TYPE, ApprovalDenied.TYPE):
                await self.together.wait()
            return await super().append(draft, expected=expected)

    fakes = Fakes(log=Both())
    approval = await asked(fakes)
    async with asyncio.timeout(60):
        responses = await asyncio.gather(
            answer(fakes, approval, "approve"), answer(fakes, approval, "deny", name="ada")
        )
    assert sorted(response.status_code for response in responses) == [202, 409]
    assert len(answers(fakes.log)) == 1


async def test_a_forged_answer_neither_counts_nor_stands_in_the_way() -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    await fakes.log.append_refused("r1", ApprovalDenied.TYPE)
    response = await answer(fakes, approval, "approve")
    assert (response.status_code, response.json()["status"]) == (202, "given")


async def test_an_answer_that_cannot_be_stored_is_given_up_in_the_end() -> None:
    class ContendedLog(MemoryLog):
        tries = 0

        async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
            if expected is not None:
                self.tries += 1
                raise PublishConflict
            return await super().append(draft)

    log = ContendedLog()
    fakes = Fakes(log=log)
    approval = await asked(fakes)
    response = await answer(fakes, approval, "approve")
    assert (response.status_code, response.json()["retryable"]) == (503, True)
    assert log.tries > 1


@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_a_run_that_has_ended_waits_for_no_answer(verb: str) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    await cancelled(fakes.log, "r1")
    response = await answer(fakes, approval, verb)
    assert response.status_code == 409
    assert "has ended (cancelled)" in response.json()["detail"]
    assert answers(fakes.log) == []


async def test_a_retry_asks_anew_what_was_denied() -> None:
    fakes = Fakes()
    old = await asked(fakes)
    await answer(fakes, old, "deny")
    await fail(fakes.log, "r1")
    async with fakes.client() as client:
        assert (await client.post("/v1/runs/r1/retry")).status_code == 202
    late = await answer(fakes, old, "approve")
    assert late.status_code == 409
    assert "retried since" in late.json()["detail"]
    new = await ask_approval(fakes.log, "r1", asked=2)
    assert (await answer(fakes, new, "approve")).json()["status"] == "given"


@pytest.mark.parametrize("approval", ["nothing", "a" * 100, "*", "%3E", "é", "swarm"])
@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_an_unknown_approval_is_not_found(approval: str, verb: str) -> None:
    fakes = Fakes()
    await asked(fakes)
    response = await answer(fakes, approval, verb)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert answers(fakes.log) == []


async def test_the_id_of_another_event_is_no_approval() -> None:
    fakes = Fakes()
    await asked(fakes)
    (submitted,) = fakes.log.of_kind("run.submitted")
    assert (await answer(fakes, submitted.event.id, "approve")).status_code == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [({}, "required"), ({"reason": ""}, "say something"), ({"reason": " "}, "say something")],
)
async def test_who_denies_says_why(body: object, reason: str) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    response = await answer(fakes, approval, "deny", body)
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    async with fakes.client() as client:
        silent = await client.post(f"/v1/approvals/{approval}/deny")
    assert silent.status_code == 422
    assert answers(fakes.log) == []


@pytest.mark.parametrize("verb", ["approve", "deny"])
@pytest.mark.parametrize(("body", "reason"), BAD_REASONS)
async def test_a_reason_that_cannot_be_shown_is_refused(
    verb: str, body: object, reason: str
) -> None:
    fakes = Fakes()
    approval = await asked(fakes)
    async with fakes.client() as client:
        response = await client.post(
            f"/v1/approvals/{approval}/{verb}", content=json.dumps(body), headers=AS_JSON
        )
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    assert answers(fakes.log) == []
