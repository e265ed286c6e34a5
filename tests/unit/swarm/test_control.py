"""Control over runs, approvals and dead letters with the SDK."""

import httpx
import pytest

from serve.app import create_app
from swarm import AsyncSwarm, Swarm
from swarm.errors import (
    Conflict,
    NotAllowed,
    NotFound,
    NotReachable,
    Refused,
    RunCancelled,
    RunNotFinished,
)
from tests.unit.serve.fakes import (
    BASE_URL,
    PASSWORD,
    Fakes,
    ask_approval,
    cancelled,
    complete,
    fail,
    give_up,
    submit,
)
from tests.unit.swarm.gateways import BadLine, answering, connected

STATUS = {
    "id": "r1",
    "status": "running",
    "objective": "x",
    "workflow": "sparc",
    "model": "m",
    "requested_by": "uma",
    "submitted_at": "2026-01-01T00:00:00Z",
    "stream_sequence": 1,
}
TOKEN = httpx.Response(200, json={"access_token": "t"})


async def test_a_run_is_paused_resumed_and_cancelled() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        run = await swarm.submit("x", priority="high", deadline_s=60, instructions={"code": "Go."})
        paused = await run.pause("lunch")
        assert (paused.status, paused.ended, paused.priority) == ("paused", False, "high")
        assert paused.waits_for is not None
        assert paused.deadline_at is not None
        with pytest.raises(RunNotFinished):
            await run.result()
        assert (await run.resume()).status == "running"
        asked = await run.cancel("no need")
        assert asked.cancellation is not None
        assert (asked.status, asked.cancellation.reason) == ("running", "no need")
        await cancelled(fakes.log, run.id)
        status = await run.wait(timeout_s=5)
        assert (status.status, status.ended, status.result) == ("cancelled", True, None)
        with pytest.raises(RunCancelled, match="cancelled by uma: no need"):
            await run.result()
    reasons = [stored.payload().reason for stored in fakes.log.of_kind("pause.requested")]  # type: ignore[attr-defined]
    assert reasons == ["lunch"]


async def test_a_failed_run_is_retried_and_followed_to_its_new_end() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        run = swarm.run("r1")
        first = [event async for event in run.events()]
        assert first[-1].ends_run
        retried = await run.retry("the model is back")
        assert (retried.status, retried.retries) == ("running", 1)
        await complete(fakes.log, "r1", "# At last")
        later = [event async for event in run.events(after=first[-1].stream_sequence)]
        every = [event async for event in run.events()]
        assert await run.result() == "# At last"
    assert [event.type for event in every] == [
        "swarm.run.submitted.v1",
        "swarm.run.failed.v1",
        "swarm.retry.requested.v1",
        "swarm.run.completed.v1",
    ]
    assert first + later == every


@pytest.mark.parametrize("cut", range(0, 4_000, 250))
async def test_a_line_that_breaks_around_a_retried_failure_costs_no_event(cut: int) -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        await swarm.run("r1").retry()
    await complete(fakes.log, "r1")
    async with await connected(fakes, BadLine(fakes, [cut, 700, 700])) as swarm:
        seen = [event.stream_sequence async for event in swarm.run("r1").events()]
    assert seen == [1, 2, 3, 4]


async def test_what_makes_no_sense_is_a_conflict_with_the_reason() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        run = swarm.run("r1")
        for verb, reason in (
            (run.cancel, "has completed"),
            (run.pause, "has completed"),
            (run.resume, "has completed"),
            (run.retry, "only a failed one"),
        ):
            with pytest.raises(Conflict, match=reason) as refused:
                await verb()
            assert refused.value.status == 409
        with pytest.raises(NotFound):
            await swarm.run("../r1").cancel()
        with pytest.raises(Refused, match="control characters"):
            await run.cancel("\x1b[2J")
        with pytest.raises(Refused, match="not text"):
            await run.cancel("\udcff")
    assert len(fakes.log.stored) == 2


async def test_approvals_are_found_and_answered() -> None:
    fakes = Fakes()
    ids = []
    for run in ("r1", "r2", "r3"):
        await submit(fakes.log, run)
        ids.append(await ask_approval(fakes.log, run))
    async with await connected(fakes) as swarm:
        assert [approval.id for approval in await swarm.approvals()] == ids
        given = await swarm.approve(ids[0], "fine")
        denied = await swarm.deny(ids[1], reason="too dear")
        assert (given.status, given.answered_by, given.reason) == ("given", "uma", "fine")
        assert (denied.status, denied.run, denied.step) == ("denied", "r2", "research")
        assert [approval.id for approval in await swarm.approvals()] == ids[2:]
        assert [approval.id for approval in await swarm.approvals("all")] == ids
        with pytest.raises(Conflict, match="denied by uma"):
            await swarm.approve(ids[1])
        with pytest.raises(NotFound):
            await swarm.approve("../r1")
        with pytest.raises(Refused, match="say something"):
            await swarm.deny(ids[2], reason="")
        assert (await swarm.run("r1").status()).approvals == (given,)


async def test_dead_letters_are_listed_and_redriven() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    letter = await give_up(fakes.log)
    await fail(fakes.log, "r1")
    async with await connected(fakes) as swarm:
        (found,) = await swarm.dead_letters()
        assert (found.id, found.run, found.deliveries, found.redriven) == (letter, "r1", 5, False)
        assert (await swarm.redrive(letter)).status == "running"
        assert (await swarm.redrive(letter)).status == "running"
        assert (await swarm.dead_letters())[0].redriven
        with pytest.raises(NotFound):
            await swarm.redrive("nothing")
    assert len(fakes.log.of_kind("retry.requested")) == 1


async def test_the_newest_runs_are_listed() -> None:
    fakes = Fakes()
    for run in ("r1", "r2", "r3"):
        await submit(fakes.log, run)
    await complete(fakes.log, "r3")
    async with await connected(fakes) as swarm:
        newest = await swarm.runs(limit=2)
    assert [(run.id, run.status) for run in newest] == [("r2", "running"), ("r3", "completed")]


async def test_a_viewer_may_only_look() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    approval = await ask_approval(fakes.log)
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    async with await AsyncSwarm.connect(
        BASE_URL, username="vic", password=PASSWORD, transport=transport
    ) as swarm:
        assert len(await swarm.approvals()) == len(await swarm.runs()) == 1
        for asking in (
            swarm.run("r1").cancel(),
            swarm.run("r1").pause(),
            swarm.approve(approval),
            swarm.deny(approval, reason="x"),
            swarm.redrive("d1"),
        ):
            with pytest.raises(NotAllowed):
                await asking
    assert len(fakes.log.stored) == 2


@pytest.mark.parametrize("verb", ["cancel", "pause"])
async def test_a_request_whose_answer_was_lost_is_repeated_where_that_is_harmless(
    verb: str,
) -> None:
    lost = httpx.ReadError("the line went dead")
    gateway = answering(TOKEN, lost, httpx.Response(202, json=STATUS))
    async with await AsyncSwarm.connect(
        BASE_URL, username="a", password="b", transport=gateway
    ) as swarm:
        assert (await getattr(swarm.run("r1"), verb)()).id == "r1"


@pytest.mark.parametrize("verb", ["resume", "retry"])
async def test_a_request_that_would_not_make_sense_twice_is_not_repeated(verb: str) -> None:
    lost = httpx.ReadError("the line went dead")
    gateway = answering(TOKEN, lost, httpx.Response(409, json={"detail": "it is not paused"}))
    async with await AsyncSwarm.connect(
        BASE_URL, username="a", password="b", transport=gateway
    ) as swarm:
        with pytest.raises(NotReachable):
            await getattr(swarm.run("r1"), verb)()


def test_all_of_it_works_without_asyncio() -> None:
    fakes = Fakes()
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    with Swarm.connect(BASE_URL, username="uma", password=PASSWORD, transport=transport) as swarm:
        run = swarm.submit("x", priority="low", deadline_s=5.0, instructions={})
        assert run.pause().status == "paused"
        assert run.resume("go").status == "running"
        assert run.cancel().cancellation is not None
        other = swarm.submit("y")
        call = swarm._bridge.call
        approval, refused = call(ask_approval(fakes.log, other.id)), swarm.submit("z")
        assert [each.id for each in swarm.approvals()] == [approval]
        assert swarm.approve(approval).status == "given"
        denied = call(ask_approval(fakes.log, refused.id))
        assert swarm.deny(denied, reason="no").status == "denied"
        letter = call(give_up(fakes.log, other.id))
        call(fail(fakes.log, other.id))
        call(fail(fakes.log, refused.id))
        assert [each.id for each in swarm.dead_letters()] == [letter]
        assert swarm.redrive(letter).retries == 1
        assert refused.retry().retries == 1
        assert [each.id for each in swarm.runs(limit=3)] == [run.id, other.id, refused.id]
