"""The SDK against the real application over parts in memory."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from bus.budget import SpentBudget
from bus.event import Draft, derive_id
from bus.payloads import RunCompleted, RunSubmitted
from bus.payloads import RunFailed as EndedBadly
from serve.app import create_app
from serve.errors import ModelUnavailable
from storage.audit_reader import AuditSummary as StoredSummary
from storage.run_owners import RunOwner
from swarm import AsyncSwarm, RunEvent
from swarm.errors import (
    GatewayFailed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReachable,
    Refused,
    RunFailed,
    RunNotFinished,
    SwarmClosed,
    TooManyRequests,
    Unavailable,
    WaitTimeout,
)
from tests.unit.serve.fakes import (
    BASE_URL,
    MODEL,
    PASSWORD,
    RESEARCH,
    UMA,
    Fakes,
    complete,
    do_step,
    fail,
    quick,
    submit,
)
from tests.unit.swarm.conftest import Hold
from tests.unit.swarm.gateways import AwayLine, connected

HELLO = [{"role": "user", "content": "hello there"}]


async def connect_as(fakes: Fakes, username: str, password: str = PASSWORD) -> AsyncSwarm:
    return await AsyncSwarm.connect(
        BASE_URL,
        username=username,
        password=password,
        transport=httpx.ASGITransport(create_app(fakes.parts())),
    )


async def test_a_run_goes_from_the_objective_to_the_document() -> None:
    fakes = Fakes()
    async with await connected(fakes, limits=quick(stream_life_s=0.02)) as swarm:
        run = await swarm.submit("Write a parser.")
        with pytest.raises(RunNotFinished):
            await run.result()
        waiting = asyncio.create_task(run.wait())
        await do_step(fakes.log, run.id, step="research", role="researcher", answer=RESEARCH)
        await complete(fakes.log, run.id, "# A parser")
        status = await waiting
        assert await run.result() == "# A parser"
    assert (status.status, status.ended, status.result) == ("completed", True, "# A parser")
    assert (status.objective, status.model, status.requested_by) == (
        "Write a parser.",
        MODEL,
        "uma",
    )
    assert [step.agent for step in status.steps] == ["researcher-1"]
    assert status.usage.completion_tokens == 12


async def test_a_failed_run_is_an_error_where_its_result_is_asked_for() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        run = swarm.run("r1")
        status = await run.wait()
        assert status.failure is not None
        assert (status.status, status.failure.code) == ("failed", "step_failed")
        with pytest.raises(RunFailed, match="in step research: No agent could"):
            await run.result()


async def test_waiting_may_have_an_end() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with await connected(fakes, limits=quick(stream_life_s=0.01)) as swarm:
        with pytest.raises(WaitTimeout):
            await swarm.run("r1").wait(timeout_s=0.05)


async def test_events_come_typed_and_in_order() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fakes.log.append_refused("r1", RunCompleted.TYPE)
    await complete(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        events = [event async for event in swarm.run("r1").events()]
        later = [event async for event in swarm.run("r1").events(after=2)]
        none = [event async for event in swarm.run("r1").events(after=3)]
    assert [event.stream_sequence for event in events] == [1, 2, 3]
    assert [event.refused for event in events] == [False, True, False]
    assert events[1].code == "bad_signature"
    assert events[0].payload is not None
    assert events[0].payload["objective"] == "Write a parser."
    assert events[2].ends_run
    assert later == events[2:]
    assert none == []


async def test_what_is_submitted_once_is_one_run_and_a_key_makes_it_the_same_for_all() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        first = await swarm.submit("x")
        second = await swarm.submit("x")
        third = await swarm.submit("x", idempotency_key="k")
        fourth = await swarm.submit("x", idempotency_key="k")
    assert first.id != second.id
    assert third.id == fourth.id
    assert len(fakes.log.stored) == 3


async def test_refusals_say_what_is_wrong() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        with pytest.raises(Refused) as refused:
            await swarm.submit("x", workflow="waterfall")
        with pytest.raises(NotFound):
            await swarm.run("r0").status()
        with pytest.raises(NotFound):
            await swarm.run("../../auth/validate").status()
        with pytest.raises(NotFound):
            _ = [event async for event in swarm.run("r0").events()]
    assert refused.value.status == 422
    assert refused.value.fields == {"workflow": "there are sparc"}
    async with await connect_as(fakes, "vic") as swarm:
        with pytest.raises(NotAllowed):
            await swarm.submit("x")


async def test_credentials_that_are_not_accepted_are_told_apart_from_no_gateway() -> None:
    fakes = Fakes()
    with pytest.raises(NotAuthenticated, match="user name or the password"):
        await connect_as(fakes, "uma", "wrong")
    fakes.throttle.attempts["ada"] = 3
    with pytest.raises(TooManyRequests):
        await connect_as(fakes, "ada")
    with pytest.raises(NotAuthenticated, match="is needed"):
        await AsyncSwarm.connect(BASE_URL)
    with pytest.raises(NotReachable) as nobody:
        await AsyncSwarm.connect("http://127.0.0.1:9", username="a", password="b")
    assert "swarm up" in nobody.value.hint
    with pytest.raises(NotReachable):
        await AsyncSwarm.connect("ftp://127.0.0.1", username="a", password="b")


async def test_a_token_will_do_as_long_as_it_lasts() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    async with await AsyncSwarm.connect(
        BASE_URL, token=fakes.token(), transport=transport
    ) as swarm:
        assert (await swarm.run("r1").status()).id == "r1"
        fakes.now = fakes.now.replace(year=2027)
        with pytest.raises(NotAuthenticated, match="expired"):
            await swarm.run("r1").status()
    with pytest.raises(NotAuthenticated):
        await AsyncSwarm.connect(BASE_URL, token="nonsense", transport=transport)


async def test_an_expired_token_is_renewed_once_for_calls_and_for_streams() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        fakes.now = fakes.now.replace(year=2027)
        statuses = await asyncio.gather(*(swarm.run("r1").status() for _ in range(5)))
        assert {status.id for status in statuses} == {"r1"}
        fakes.now = fakes.now.replace(year=2028)
        assert len([event async for event in swarm.run("r1").events()]) == 2
        fakes.now = fakes.now.replace(year=2029)
        assert [text async for text in await swarm.chat(HELLO, stream=True)] == ["hello", "there"]


async def test_a_password_that_was_changed_is_not_tried_for_ever() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with await connected(fakes) as swarm:
        fakes.now = fakes.now.replace(year=2027)
        fakes.users.users.clear()
        with pytest.raises(NotAuthenticated):
            await swarm.run("r1").status()
    assert fakes.throttle.attempts == {"uma": 1}


async def test_the_model_answers_whole_and_in_pieces() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        reply = await swarm.chat(HELLO, max_tokens=5)
        pieces = [text async for text in await swarm.chat(HELLO, stream=True)]
    assert (reply.text, reply.model, reply.finish_reason) == ("hello there", MODEL, "stop")
    assert reply.usage.prompt_tokens == 3
    assert pieces == ["hello", "there"]
    assert fakes.model.requests[0]["max_tokens"] == 5


async def test_a_model_that_fails_is_an_error_wherever_it_fails() -> None:
    fakes = Fakes()
    chunk = '{"choices": [{"delta": {"content": "hel"}}]}'
    async with await connected(fakes) as swarm:
        fakes.model.says = ['{"error": {"message": "too long", "code": 400}}']
        with pytest.raises(Refused, match="too long"):
            await swarm.chat(HELLO)
        fakes.model.says = ['{"error": {"message": "boom", "code": 500}}']
        with pytest.raises(GatewayFailed):
            await swarm.chat(HELLO)
        fakes.model.says = ['{"choices": []}']
        with pytest.raises(GatewayFailed, match="no answer"):
            await swarm.chat(HELLO)
        fakes.model.says = [chunk, ModelUnavailable()]
        pieces = await swarm.chat(HELLO, stream=True)
        assert await anext(pieces) == "hel"
        with pytest.raises(GatewayFailed, match="No model"):
            await anext(pieces)


async def test_a_stream_left_early_lets_the_model_go() -> None:
    fakes = Fakes()
    async with (
        await connected(fakes) as swarm,
        aclosing(await swarm.chat(HELLO, stream=True)) as pieces,
    ):
        assert await anext(pieces) == "hello"
    assert fakes.model.closed == 1


async def test_the_audit_summary_is_typed() -> None:
    fakes = Fakes()
    fakes.audit.summaries["r1"] = StoredSummary(
        run="r1", events=5, accepted=4, refused=1, tree_size=9, root="cd" * 32, checkpoint="note\n"
    )
    fakes.owners.owners["r1"] = RunOwner(user=UMA, tenant="default")
    async with await connected(fakes) as swarm:
        summary = await swarm.audit("r1")
        assert await swarm.run("r1").audit() == summary
    assert (summary.events, summary.signatures_verified, summary.refused) == (5, 4, 1)
    assert (summary.tree_size, summary.root, summary.checkpoint) == (9, "cd" * 32, "note\n")


async def test_a_closed_client_says_so() -> None:
    swarm = await connected(Fakes())
    await swarm.aclose()
    with pytest.raises(SwarmClosed):
        await swarm.run("r1").status()
    with pytest.raises(SwarmClosed):
        _ = [event async for event in swarm.run("r1").events()]


async def test_a_part_that_is_down_is_waited_for_no_longer_than_allowed() -> None:
    fakes = Fakes()
    async with await AsyncSwarm.connect(
        BASE_URL,
        username="uma",
        password=PASSWORD,
        timeout_s=0.5,
        patience_s=0.5,
        transport=httpx.ASGITransport(create_app(fakes.parts())),
    ) as swarm:
        await fakes.log.break_down()
        with pytest.raises(Unavailable, match="event bus"):
            await swarm.submit("x")
        with pytest.raises(Unavailable, match="event bus"):
            _ = [event async for event in swarm.run("r1").events()]


async def test_a_gateway_that_starts_again_is_waited_for_longer_than_for_an_answer() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    line = AwayLine(fakes, 4)
    connecting = AsyncSwarm.connect(
        BASE_URL, username="uma", password=PASSWORD, timeout_s=0.5, transport=line
    )
    async with await connecting as swarm:
        assert len([event async for event in swarm.run("r1").events()]) == 2
    assert line.away == 0


async def test_who_waits_for_a_run_waits_for_a_gateway_that_starts_again() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    line = AwayLine(fakes, 500, of="/v1/runs/r1")  # more than one call asks for
    connecting = AsyncSwarm.connect(
        BASE_URL, username="uma", password=PASSWORD, timeout_s=0.5, transport=line
    )
    async with await connecting as swarm:
        assert (await swarm.run("r1").wait()).status == "completed"
    assert line.away == 0


async def test_who_waits_for_a_run_loses_patience_in_the_end() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    line = AwayLine(fakes, 100_000, of="/v1/runs/r1")
    connecting = AsyncSwarm.connect(
        BASE_URL, username="uma", password=PASSWORD, timeout_s=0.5, patience_s=0.0, transport=line
    )
    async with await connecting as swarm:
        with pytest.raises((NotReachable, Unavailable)):
            await swarm.run("r1").wait()


class Stranger:
    """Lets everybody in, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.told.append(request)
        return httpx.Response(200, json={"access_token": "t"})


def write_ready(home: Path) -> None:
    """What a swarm says that is ready."""
    state = {"phase": "ready", "addresses": {"gateway": BASE_URL}}
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "state.json").write_text(json.dumps(state))


async def test_the_swarm_on_this_machine_is_found_by_its_home(tmp_path: Path, hold: Hold) -> None:
    fakes = Fakes()
    fakes.users.users["admin"] = fakes.users.users["ada"]
    (tmp_path / "keys").mkdir()
    write_ready(tmp_path)
    hold(tmp_path)
    (tmp_path / "keys" / "admin.password").write_text(PASSWORD + "\n")
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    async with await AsyncSwarm.connect(home=tmp_path, transport=transport) as swarm:
        assert repr(swarm) == f"AsyncSwarm('{BASE_URL}')"
        assert repr(await swarm.submit("x")).startswith("AsyncRun('r")


async def test_the_swarm_on_this_machine_may_be_used_as_somebody_else(
    tmp_path: Path, hold: Hold
) -> None:
    """There is no admin.password to read here, and none is read."""
    fakes = Fakes()
    write_ready(tmp_path)
    hold(tmp_path)
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    async with await AsyncSwarm.connect(
        home=tmp_path, username="uma", password=PASSWORD, transport=transport
    ) as swarm:
        run = await swarm.submit("x")
        assert (await run.status()).requested_by == "uma"
    async with await AsyncSwarm.connect(
        home=tmp_path, token=fakes.token("ada"), transport=transport
    ) as swarm:
        run = await swarm.submit("x")
        assert (await run.status()).requested_by == "Ada"
    with pytest.raises(NotAuthenticated, match="is needed"):
        await AsyncSwarm.connect(home=tmp_path, username="uma", transport=transport)


async def test_the_password_in_the_home_is_not_sent_elsewhere(tmp_path: Path) -> None:
    stranger = Stranger()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "admin.password").write_text(PASSWORD)
    with pytest.raises(NotAuthenticated):
        await AsyncSwarm.connect(
            "http://elsewhere.test", home=tmp_path, transport=httpx.MockTransport(stranger)
        )
    assert stranger.told == []


async def test_nothing_is_sent_to_who_has_the_port_of_a_swarm_that_was_killed(
    tmp_path: Path, hold: Hold
) -> None:
    stranger = Stranger()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "admin.password").write_text(PASSWORD)
    write_ready(tmp_path)
    hold(tmp_path)()
    with pytest.raises(NotReachable, match="the last one was killed"):
        await AsyncSwarm.connect(home=tmp_path, transport=httpx.MockTransport(stranger))
    assert stranger.told == []


def test_events_with_fields_of_a_later_version_are_understood() -> None:
    event = RunEvent.model_validate(
        {
            "stream_sequence": 1,
            "stored_at": "2026-01-01T00:00:00Z",
            "type": "swarm.new.kind.v3",
            "subject": "evt.00.r1.new.kind",
            "mood": "good",
        }
    )
    assert not event.ends_run


async def test_a_run_is_given_a_budget_and_says_when_it_is_used_up() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        run = await swarm.submit("Write a parser.", budget_tokens=500)
        (submitted,) = fakes.log.of_kind("run.submitted")
        payload = submitted.payload()
        assert isinstance(payload, RunSubmitted)
        assert payload.budget_tokens == 500
        spent = SpentBudget(budget="tokens_per_run", spent=510, limit=500)
        failed = EndedBadly(code="budget_exhausted", message="spent", budget=spent)
        draft = Draft(run=run.id, payload=failed, id=derive_id("run.ended", run.id))
        await fakes.log.append_as("coordinator", "coordinator", draft)
        failure = (await run.status()).failure
        assert failure is not None
        assert failure.budget is not None
        assert (failure.budget.spent, failure.budget.limit, failure.budget.role) == (510, 500, None)
        with pytest.raises(Refused, match="budget_tokens"):
            await swarm.submit("Write a parser.", budget_tokens=10**12)
