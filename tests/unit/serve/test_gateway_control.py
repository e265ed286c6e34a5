"""Control over runs: each request is one event, or a refusal that says why."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from bus.event import Draft, StoredEvent
from bus.log import Expected
from bus.payloads import CancelRequested, PauseRequested, Request
from tests.unit.serve.fakes import (
    RESEARCH,
    UMA,
    Fakes,
    MemoryLog,
    cancelled,
    complete,
    do_step,
    fail,
    submit,
)

AS_JSON = {"Content-Type": "application/json"}
VERBS = ("cancel", "pause", "resume", "retry")
BAD_REASONS = [
    ({"reason": "x" * 501}, "at most 500"),
    ({"reason": "a\0b"}, "control characters"),
    ({"reason": "a\x1b[2Jb"}, "control characters"),
    ({"reason": "two\nlines"}, "control characters"),
    ({"reason": "\x7f"}, "control characters"),
    ({"reason": "\ud800"}, "unicode"),
    ({"reason": 7}, "string"),
    ({"reason": None}, "string"),
    ({"because": "x"}, "not permitted"),
    ([], "dictionary"),
    ("cancel it", "dictionary"),
]


async def a_run(fakes: Fakes, status: str = "running") -> None:
    await submit(fakes.log)
    match status:
        case "completed":
            await complete(fakes.log, "r1")
        case "failed":
            await fail(fakes.log, "r1")
        case "cancelled":
            await cancelled(fakes.log, "r1")
        case "paused":
            await ask(fakes, "pause")


async def ask(fakes: Fakes, verb: str, body: Any = None, name: str = "uma") -> httpx.Response:
    async with fakes.client(name) as client:
        return await client.post(f"/v1/runs/r1/{verb}", json={} if body is None else body)


def requests(log: MemoryLog) -> list[Request]:
    payloads = [each.payload() for each in log.stored if isinstance(each, StoredEvent)]
    return [payload for payload in payloads if isinstance(payload, Request)]


async def test_a_cancel_is_in_the_log_before_the_answer() -> None:
    fakes = Fakes()
    await a_run(fakes)
    answer = await ask(fakes, "cancel", {"reason": " no need any more "})
    assert answer.status_code == 202
    view = answer.json()
    assert (view["id"], view["status"]) == ("r1", "running")
    assert view["cancellation"] == {"requested_by": "uma", "reason": "no need any more"}
    (stored,) = fakes.log.of_kind("cancel.requested", "r1")
    assert stored.payload() == CancelRequested(requested_by="uma", reason="no need any more")
    assert stored.event.on_behalf_of == UMA
    assert stored.event.cause == fakes.log.stored[0].event.id  # type: ignore[union-attr]
    assert view["stream_sequence"] == stored.stream_sequence


@pytest.mark.parametrize("verb", ["cancel", "pause"])
async def test_a_repeat_of_what_is_so_already_is_harmless(verb: str) -> None:
    fakes = Fakes()
    await a_run(fakes)
    first, second = await ask(fakes, verb), await ask(fakes, verb, name="ada")
    assert first.status_code == second.status_code == 202
    assert len(requests(fakes.log)) == 1


async def test_two_who_cancel_at_once_make_one_event() -> None:
    fakes = Fakes()
    await a_run(fakes)
    answers = await asyncio.gather(*(ask(fakes, "cancel", name=n) for n in ("uma", "ada") * 5))
    assert {answer.status_code for answer in answers} == {202}
    assert len(requests(fakes.log)) == 1


async def test_a_run_may_be_paused_and_resumed_any_number_of_times() -> None:
    fakes = Fakes()
    await a_run(fakes)
    statuses = []
    for verb in ("pause", "resume") * 3:
        answer = await ask(fakes, verb)
        assert answer.status_code == 202
        statuses.append(answer.json()["status"])
    assert statuses == ["paused", "running"] * 3
    assert len({stored.event.id for stored in fakes.log.of_kind("pause.requested")}) == 3
    assert len(requests(fakes.log)) == 6


async def test_a_failed_run_is_retried_once_for_each_failure() -> None:
    fakes = Fakes()
    await a_run(fakes, "failed")
    first = await ask(fakes, "retry", {"reason": "the model is back"})
    assert first.status_code == 202
    assert (first.json()["status"], first.json()["retries"]) == ("running", 1)
    assert first.json()["failure"] is None
    too_early = await ask(fakes, "retry")
    assert too_early.status_code == 409
    await fail(fakes.log, "r1")
    second = await ask(fakes, "retry")
    assert (second.status_code, second.json()["retries"]) == (202, 2)
    ends = fakes.log.of_kind("run.failed")
    assert [s.event.cause for s in fakes.log.of_kind("retry.requested")] == [
        end.event.id for end in ends
    ]


async def test_a_run_that_was_retried_may_be_cancelled_again() -> None:
    fakes = Fakes()
    await a_run(fakes)
    await ask(fakes, "cancel")
    await fail(fakes.log, "r1")
    await ask(fakes, "retry")
    answer = await ask(fakes, "cancel", {"reason": "again"})
    assert answer.json()["cancellation"] == {"requested_by": "uma", "reason": "again"}
    assert len(fakes.log.of_kind("cancel.requested")) == 2


@pytest.mark.parametrize(
    ("verb", "status", "reason"),
    [
        ("cancel", "completed", "has completed"),
        ("cancel", "failed", "has failed"),
        ("pause", "completed", "has completed"),
        ("pause", "failed", "has failed"),
        ("pause", "cancelled", "has been cancelled"),
        ("resume", "running", "is not paused"),
        ("resume", "completed", "has completed"),
        ("resume", "failed", "has failed"),
        ("resume", "cancelled", "has been cancelled"),
        ("retry", "running", "is running; only a failed"),
        ("retry", "paused", "is paused; only a failed"),
        ("retry", "completed", "has completed; only a failed"),
        ("retry", "cancelled", "has been cancelled; only a failed"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_the_reason(
    verb: str, status: str, reason: str
) -> None:
    fakes = Fakes()
    await a_run(fakes, status)
    before = len(fakes.log.stored)
    answer = await ask(fakes, verb)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "conflict"
    assert reason in answer.json()["detail"]
    assert len(fakes.log.stored) == before


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_a_run_that_is_being_cancelled_is_left_to_it(verb: str) -> None:
    fakes = Fakes()
    await a_run(fakes)
    await ask(fakes, "pause")
    await ask(fakes, "cancel")
    answer = await ask(fakes, verb)
    assert answer.status_code == 409
    assert "being cancelled" in answer.json()["detail"]


async def test_to_cancel_what_was_cancelled_changes_nothing() -> None:
    """The first answer may have been lost on its way."""
    fakes = Fakes()
    await a_run(fakes, "cancelled")
    answer = await ask(fakes, "cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["cancellation"] == {"requested_by": "uma", "reason": "no need"}
    assert answer.json()["ended_at"] is not None
    assert requests(fakes.log) == []


async def test_a_run_that_can_never_work_is_not_retried() -> None:
    fakes = Fakes()
    await submit(fakes.log, workflow="gone")
    await fail(fakes.log, "r1")
    answer = await ask(fakes, "retry")
    assert answer.status_code == 409
    assert "would fail again: there is no workflow gone" in answer.json()["detail"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_reason_is_not_needed_nor_is_a_body(verb: str) -> None:
    fakes = Fakes()
    await a_run(fakes, {"resume": "paused", "retry": "failed"}.get(verb, "running"))
    async with fakes.client() as client:
        answer = await client.post(f"/v1/runs/r1/{verb}")
    assert answer.status_code == 202
    assert requests(fakes.log)[-1].reason == ""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("body", "reason"), BAD_REASONS)
async def test_a_reason_that_cannot_be_shown_is_refused(
    verb: str, body: object, reason: str
) -> None:
    fakes = Fakes()
    await a_run(fakes)
    async with fakes.client() as client:
        answer = await client.post(f"/v1/runs/r1/{verb}", content=json.dumps(body), headers=AS_JSON)
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]
    assert len(fakes.log.stored) == 1


@pytest.mark.parametrize("verb", VERBS)
async def test_a_megabyte_of_reason_is_not_read(verb: str) -> None:
    fakes = Fakes()
    await a_run(fakes)
    answer = await ask(fakes, verb, {"reason": "x" * (1 << 20)})
    assert answer.status_code == 413
    assert len(fakes.log.stored) == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("run", ["nothing", "r" * 65, "swarm", "*", "%3E", "a%20b", "é"])
async def test_an_unknown_run_is_not_found(verb: str, run: str) -> None:
    fakes = Fakes()
    await a_run(fakes)
    async with fakes.client() as client:
        answer = await client.post(f"/v1/runs/{run}/{verb}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert len(fakes.log.stored) == 1


@pytest.mark.parametrize("verb", ["pause", "retry"])
async def test_nothing_is_asked_of_a_run_that_leaves_the_log_meanwhile(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Fakes()
    await a_run(fakes, "failed" if verb == "retry" else "running")
    append = fakes.log.append

    async def append_late(draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        fakes.log.stored.clear()
        return await append(draft, expected=expected)

    monkeypatch.setattr(fakes.log, "append", append_late)
    assert (await ask(fakes, verb)).status_code == 404
    assert requests(fakes.log) == []


async def test_a_forged_pause_pauses_nothing() -> None:
    fakes = Fakes()
    await a_run(fakes)
    await fakes.log.append_refused("r1", PauseRequested.TYPE)
    assert (await ask(fakes, "resume")).status_code == 409


async def test_a_request_that_comes_too_late_tells_how_the_run_ended() -> None:
    class SlowLog(MemoryLog):
        """The run ends between the look at it and the request."""

        async def append(self, *args: Any, **options: Any) -> StoredEvent:
            if self.of_kind("run.submitted"):
                await complete(self, "r1")
            return await super().append(*args, **options)

    fakes = Fakes(log=SlowLog())
    await a_run(fakes)
    answer = await ask(fakes, "cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "completed")


async def test_without_the_broker_a_request_may_be_tried_again() -> None:
    fakes = Fakes()
    await a_run(fakes)
    await fakes.log.break_down()
    answer = await ask(fakes, "cancel")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


async def test_work_that_goes_on_does_not_hold_a_cancel_up() -> None:
    class BusyLog(MemoryLog):
        async def append(self, *args: Any, **options: Any) -> StoredEvent:
            number = len(self.stored)
            if number:
                await do_step(self, "r1", step=f"s{number}", role="researcher", answer=RESEARCH)
            return await super().append(*args, **options)

    fakes = Fakes(log=BusyLog())
    await a_run(fakes)
    answer = await ask(fakes, "cancel")
    assert (answer.status_code, len(answer.json()["steps"])) == (202, 1)


async def test_the_openapi_document_tells_of_the_refusals() -> None:
    async with Fakes().client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for verb in VERBS:
        operation = paths[f"/v1/runs/{{run}}/{verb}"]["post"]
        assert {"202", "404", "409", "default"} <= operation["responses"].keys()
        assert operation["security"] == [{"HTTPBearer": []}]
