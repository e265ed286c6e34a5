"""Runs of plain agents and a plain coordinator on a real broker."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from actors.errors import AnswerRejected
from actors.model import Completion, Message, ModelRequest
from actors.receipt import answer_digest
from actors.recheck import question_of, recorded_in
from actors.roles import role_spec
from bus.payloads import RunCompleted, RunFailed, StepCompleted, StepFailed
from serve.scripted import engine
from tests.broker import Broker
from tests.swarming import (
    ScriptedAnswers,
    agent,
    by_type,
    coordinator,
    readable,
    submission,
    team,
    until_end,
)


async def test_a_sparc_run_ends_with_a_document(broker: Broker, run: str) -> None:
    async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
        ended = events[-1].payload()
        assert isinstance(ended, RunCompleted), readable(events)
        assert ended.document.startswith("# ")
        assert "rate limiter" in ended.document
        results = Counter(
            (payload.step, payload.iteration)
            for event in events
            if isinstance(payload := event.payload(), StepCompleted)
        )
        assert len(results) == ended.steps
        assert set(results.values()) == {1}
        assert {e.event.on_behalf_of for e in events} == {"admin"}
        known = {e.event.id for e in events}
        assert all(e.event.cause in known for e in events[1:])


async def test_each_answer_carries_a_receipt_that_the_log_alone_bears_out(
    broker: Broker, run: str
) -> None:
    async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
    answers = by_type(events)[StepCompleted.TYPE]
    assert answers
    for event in answers:
        recorded = recorded_in(events, event.event.id)
        assert recorded.receipt.engine == "scripted"
        assert recorded.receipt.weights == engine().weights
        question = question_of(recorded, role_spec(event.event.role, recorded.outcome.step)).request
        assert question.seed == recorded.receipt.seed


class Babbling(ScriptedAnswers):
    """Says something else than it was asked for."""

    async def complete(self, request: ModelRequest) -> Completion:
        return replace(await super().complete(request), text="once upon a time")


async def test_a_failed_attempt_carries_the_receipt_of_what_the_model_said(
    broker: Broker, run: str
) -> None:
    async with team(broker, Babbling()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
    for event in by_type(events)[StepFailed.TYPE]:
        recorded = recorded_in(events, event.event.id)
        assert recorded.digests.answer == answer_digest("once upon a time")
        assert recorded.receipt.weights == engine().weights


async def test_an_agent_that_dies_in_the_middle_hands_its_step_over(
    broker: Broker, run: str
) -> None:
    stuck = asyncio.Event()

    async def forever(messages: Sequence[Message]) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with broker.joined("gateway") as gateway, coordinator(broker):
        async with agent(broker, "specifier", "specifier-1", ScriptedAnswers(forever)) as doomed:
            await gateway.append(submission(run))
            await stuck.wait()
            doomed.cancel()
        async with team(broker, ScriptedAnswers()):
            events = await until_end(gateway, run)
        found = by_type(events)
        specification = [
            payload
            for e in found["swarm.step.completed.v1"]
            if isinstance(payload := e.payload(), StepCompleted) and payload.step == "specification"
        ]
        assert [payload.epoch for payload in specification] == [2]
        assert isinstance(events[-1].payload(), RunCompleted)


async def test_an_answer_that_does_not_fit_is_asked_for_again(broker: Broker, run: str) -> None:
    refused: list[str] = []

    async def refuse_the_first_two(messages: Sequence[Message]) -> None:
        if len(refused) < 2:
            refused.append(messages[0].content)
            raise AnswerRejected("not JSON")

    async with (
        broker.joined("gateway") as gateway,
        team(broker, ScriptedAnswers(refuse_the_first_two)),
    ):
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
        found = by_type(events)
        assert len(found["swarm.step.failed.v1"]) == 2
        assert isinstance(events[-1].payload(), RunCompleted)


async def test_a_step_that_never_works_fails_the_run_with_its_reason(
    broker: Broker, run: str
) -> None:
    async def refuse(messages: Sequence[Message]) -> None:
        raise AnswerRejected("not JSON")

    async with broker.joined("gateway") as gateway, team(broker, ScriptedAnswers(refuse)):
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
        ended = events[-1].payload()
        assert isinstance(ended, RunFailed)
        assert ended.step in ("specification", "research")
        assert any(isinstance(e.payload(), StepFailed) for e in events)


async def test_two_coordinators_do_no_harm(broker: Broker, run: str) -> None:
    async with (
        broker.joined("gateway") as gateway,
        coordinator(broker, "coordinator-2"),
        team(broker, ScriptedAnswers()),
    ):
        await gateway.append(submission(run))
        events = await until_end(gateway, run)
        assert isinstance(events[-1].payload(), RunCompleted)
        ids = Counter(event.event.id for event in events)
        assert set(ids.values()) == {1}


async def test_a_coordinator_that_comes_later_carries_on(broker: Broker, run: str) -> None:
    reached = asyncio.Event()
    go_on = asyncio.Event()

    async def wait_at_the_third_step(messages: Sequence[Message]) -> None:
        if len(model.calls) >= 3:
            reached.set()
            await go_on.wait()

    model = ScriptedAnswers(wait_at_the_third_step)
    async with broker.joined("gateway") as gateway:
        async with team(broker, model):
            await gateway.append(submission(run))
            async with asyncio.timeout(60):
                await reached.wait()
        go_on.set()
        async with team(broker, model):
            events = await until_end(gateway, run)
        assert isinstance(events[-1].payload(), RunCompleted)
        assert len(by_type(events)["swarm.run.completed.v1"]) == 1


async def test_an_unknown_workflow_fails_the_run(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, coordinator(broker):
        await gateway.append(submission(run, workflow="nonsense"))
        events = await until_end(gateway, run)
        ended = events[-1].payload()
        assert isinstance(ended, RunFailed)
        assert "nonsense" in ended.message
