"""Agents at their queue, on a real broker: stopped when the run ends, given up, handed over."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from actors.attempt import Desk
from actors.model import Message
from actors.team import AGENTS
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import (
    AssignmentDead,
    Payload,
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.pull import pull
from bus.work import WorkQueue
from policies.capabilities import queue_name
from tests.broker import Broker
from tests.integration.actors.assigning import (
    assigned,
    cancelled,
    delivery,
    forge,
    kinds,
    make_queue_anew,
    payloads,
    said,
    settled,
    work,
)
from tests.swarming import ScriptedAnswers, agent, in_background

NO_TOKENS = Usage(prompt_tokens=0, completion_tokens=0)
STOPS_WITHIN_S = 1.0
TRIES = 3
"""The machine may be busy with something else once; what is slow by itself is slow each time."""
LONG_S = 30.0
"""A lease that runs out in no test: who counts deliveries hands them back itself."""


class Thinking:
    """A gate of the model: says when it was asked and when it was stopped."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, _: Sequence[Message]) -> None:
        self.asked.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise


def ended(run: str, payload: Payload) -> Draft:
    return Draft(run=run, payload=payload, id=derive_id("run.ended", run))


@asynccontextmanager
async def limited(
    broker: Broker, model: ScriptedAnswers, limit: int, name: str = "coder-1"
) -> AsyncIterator[None]:
    """An agent that gives an assignment up after so many deliveries."""
    async with broker.joined("coder", name) as log:
        member = AGENTS["coder"](log, model, delivery_limit=limit)
        async with in_background(member.run(WorkQueue(log, queue_name("coder"), lease_s=1.0))):
            yield


@pytest.mark.parametrize(
    "end",
    [
        cancelled,
        lambda run: ended(run, RunFailed(code="run_deadline", message="made up")),
        lambda run: ended(run, RunCompleted(document="made up", steps=0, usage=NO_TOKENS)),
    ],
    ids=["cancelled", "failed", "completed"],
)
async def test_a_model_call_stops_within_a_second_of_the_end_of_its_run(
    broker: Broker, run: str, end: Callable[[str], Draft]
) -> None:
    stopped_after: list[float] = []
    async with broker.joined("coordinator") as coordinator:
        for each in (f"{run}{number}" for number in range(TRIES)):
            thinking = Thinking()
            async with agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)):
                await coordinator.append(assigned(each))
                async with asyncio.timeout(60):
                    await thinking.asked.wait()
                ending = await coordinator.append(end(each))
                stored = time.monotonic()
                async with asyncio.timeout(60):
                    await thinking.stopped.wait()
                stopped_after.append(time.monotonic() - stored)
                await settled(coordinator)
            events = await said(coordinator, each)
            assert events[-1].event == ending.event
            assert len(events) == 3
    assert min(stopped_after) < STOPS_WITHIN_S, stopped_after


async def test_an_agent_that_stopped_takes_the_next_assignment(broker: Broker, run: str) -> None:
    thinking = Thinking()
    async with (
        broker.joined("coordinator") as coordinator,
        agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)),
    ):
        await coordinator.append(assigned(run))
        async with asyncio.timeout(60):
            await thinking.asked.wait()
        await coordinator.append(cancelled(run))
        thinking.go_on.set()
        await coordinator.append(assigned(f"{run}-next"))
        await settled(coordinator)
        assert kinds(await said(coordinator, f"{run}-next"))[-1] == "step.completed"


async def test_a_forged_end_stops_no_model_call(broker: Broker, run: str) -> None:
    thinking = Thinking()
    async with (
        broker.joined("coordinator") as coordinator,
        agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)),
    ):
        await coordinator.append(assigned(run))
        async with asyncio.timeout(60):
            await thinking.asked.wait()
        await forge(coordinator, cancelled(run))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(STOPS_WITHIN_S):
                await thinking.stopped.wait()
        thinking.go_on.set()
        await settled(coordinator)
        assert kinds(await said(coordinator, run))[-1] == "step.completed"


async def test_a_retry_of_the_run_does_not_bring_an_attempt_from_before_back(
    broker: Broker, run: str
) -> None:
    """The coordinator takes it for over, and assigns the step anew."""
    thinking = Thinking()
    async with (
        broker.joined("coordinator") as coordinator,
        broker.joined("gateway") as gateway,
    ):
        await coordinator.append(assigned(run))
        await coordinator.append(ended(run, RunFailed(code="made_up", message="made up")))
        retry = RetryRequested(requested_by="admin")
        await gateway.append(Draft(run=run, payload=retry, id=derive_id("retry", run)))
        async with agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)):
            async with asyncio.timeout(60):
                await thinking.stopped.wait()
            thinking.go_on.set()
            await coordinator.append(assigned(run, attempt=2))
            await settled(coordinator)
        (completed,) = payloads(await said(coordinator, run), StepCompleted)
        assert completed.attempt == 2


async def test_an_assignment_of_a_cancelled_run_is_taken_off_the_queue_unasked(
    broker: Broker, run: str
) -> None:
    model = ScriptedAnswers()
    async with broker.joined("coordinator") as coordinator:
        await coordinator.append(assigned(run))
        await coordinator.append(cancelled(run))
        async with agent(broker, "coder", "coder-1", model):
            await settled(coordinator)
        assert model.calls == []
        assert payloads(await said(coordinator, run), RunCancelled) != []
        assert len(await said(coordinator, run)) == 2


async def test_an_assignment_that_a_new_queue_hands_out_again_is_taken_over(
    broker: Broker, run: str
) -> None:
    """Its first agent works on; the epochs tell whose answer counts."""
    thinking = Thinking()
    async with (
        broker.joined("coordinator") as coordinator,
        agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)),
    ):
        await coordinator.append(assigned(run))
        async with asyncio.timeout(60):
            await thinking.asked.wait()
        await make_queue_anew(broker)
        async with agent(broker, "coder", "coder-2", ScriptedAnswers()):
            await settled(coordinator)
        events = await said(coordinator, run)
        assert kinds(events) == ["step.assigned", "step.claimed", "step.claimed", "step.completed"]
        assert [json.loads(e.event.data)["epoch"] for e in events[1:]] == [1, 2, 2]
        assert events[-1].event.agent == "coder-2"


async def test_an_answered_assignment_that_a_new_queue_hands_out_again_asks_no_model(
    broker: Broker, run: str
) -> None:
    model = ScriptedAnswers()
    async with broker.joined("coordinator") as coordinator:
        await coordinator.append(assigned(run))
        async with agent(broker, "coder", "coder-1", model):
            await settled(coordinator)
            await make_queue_anew(broker)
            await settled(coordinator)
        assert len(model.calls) == 1
        assert kinds(await said(coordinator, run)) == [
            "step.assigned",
            "step.claimed",
            "step.completed",
        ]


async def drop(broker: Broker, times: int, *, begin: bool = True) -> None:
    """Take the assignment, begin it if wanted, and vanish; so often."""
    async with broker.joined("coder", "coder-9") as vanishing:
        desk = Desk(vanishing, "coder")
        for _ in range(times):
            messages = pull(vanishing.connection, queue_name("coder"), batch=1)
            async with asyncio.timeout(60):
                message = await anext(messages)
            await messages.aclose()
            taken = await vanishing.check(message)
            assert isinstance(taken, StoredEvent)
            if begin:
                deliveries = message.metadata.num_delivered
                assert await desk.claim(work(taken), delivery(taken, deliveries)) is not None
            await message.nak()
            await vanishing.connection.client.flush()


async def test_an_assignment_that_nobody_brings_to_an_end_becomes_a_dead_letter(
    broker: Broker, run: str
) -> None:
    model = ScriptedAnswers()
    await make_queue_anew(broker, lease_s=LONG_S)
    async with broker.joined("coordinator") as coordinator:
        assignment = await coordinator.append(assigned(run))
        await drop(broker, 2)
        async with limited(broker, model, limit=2):
            await settled(coordinator)
        events = await said(coordinator, run)
        assert kinds(events)[1:] == [*["step.claimed"] * 3, "assignment.dead", "step.failed"]
        (dead,) = payloads(events, AssignmentDead)
        (failed,) = payloads(events, StepFailed)
        assert (dead.deliveries, dead.epoch, dead.step) == (3, 3, "code")
        assert (failed.code, failed.retryable) == ("delivery_limit", False)
        assert "begun 2 times" in dead.reason
        assert events[1].event.cause == assignment.event.id
        assert model.calls == []


async def test_the_last_delivery_within_the_limit_is_worked_on(broker: Broker, run: str) -> None:
    await make_queue_anew(broker, lease_s=LONG_S)
    async with broker.joined("coordinator") as coordinator:
        await coordinator.append(assigned(run))
        await drop(broker, 1)
        async with limited(broker, ScriptedAnswers(), limit=2):
            await settled(coordinator)
        assert len(payloads(await said(coordinator, run), StepCompleted)) == 1


async def test_deliveries_that_nobody_began_do_not_count(broker: Broker, run: str) -> None:
    await make_queue_anew(broker, lease_s=LONG_S)
    async with broker.joined("coordinator") as coordinator:
        await coordinator.append(assigned(run))
        await drop(broker, 5, begin=False)
        await drop(broker, 1)
        async with limited(broker, ScriptedAnswers(), limit=2):
            await settled(coordinator)
        events = await said(coordinator, run)
        assert payloads(events, AssignmentDead) == []
        (completed,) = payloads(events, StepCompleted)
        assert completed.epoch == 7


async def test_epochs_that_a_new_queue_made_necessary_do_not_count_as_deliveries(
    broker: Broker, run: str
) -> None:
    thinking = Thinking()
    async with (
        broker.joined("coordinator") as coordinator,
        agent(broker, "coder", "coder-1", ScriptedAnswers(thinking)),
    ):
        await coordinator.append(assigned(run))
        async with asyncio.timeout(60):
            await thinking.asked.wait()
        await make_queue_anew(broker)
        async with limited(broker, ScriptedAnswers(), limit=1, name="coder-2"):
            await settled(coordinator)
        (completed,) = payloads(await said(coordinator, run), StepCompleted)
        assert completed.epoch == 2
