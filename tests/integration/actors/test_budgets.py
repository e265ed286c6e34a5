"""Budgets and calls on a real broker: a denied call fails its step, a spent budget its run."""

from dataclasses import replace

from actors.policed_model import Asker, PolicedModel
from actors.replay import replay
from actors.team import AGENTS
from bus.budget import RunBudget
from bus.event import Draft
from bus.payloads import (
    RunFailed,
    RunSubmitted,
    StepCompleted,
    StepFailed,
)
from bus.subjects import run_filter
from bus.work import WorkQueue
from policies.capabilities import Capabilities, queue_name
from tests.broker import Broker
from tests.integration.actors.assigning import assigned, payloads, said, settled
from tests.swarming import (
    ScriptedAnswers,
    in_background,
    submission,
    team,
    until_end,
)

TOKENS = 200
NONE = Capabilities(b"version: 1\nroles: {coder: {work: true, call: {models: [other]}}}")


def budgeted(run: str, tokens: int) -> Draft:
    draft = submission(run)
    assert isinstance(draft.payload, RunSubmitted)
    return replace(
        draft, payload=draft.payload.model_copy(update={"budget": RunBudget(tokens=tokens)})
    )


async def test_a_run_over_its_budget_ends_with_it_on_record_and_replays_equal(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway, team(broker, ScriptedAnswers()):
        await gateway.append(budgeted(run, TOKENS))
        events = await until_end(gateway, run)
        ended = events[-1].payload()
        assert isinstance(ended, RunFailed)
        assert ended.code == "budget_exhausted"
        assert ended.budget is not None
        assert (ended.budget.limit, ended.budget.role) == (TOKENS, None)
        paid = [each.usage for each in payloads(events, StepCompleted)]
        assert ended.budget.spent == sum(u.prompt_tokens + u.completion_tokens for u in paid)
        assert ended.budget.spent >= TOKENS
        made = replay([each async for each in gateway.read(run_filter(run))])
        assert made.is_equal, made.divergence


async def test_a_model_that_the_role_may_not_call_fails_the_step_unasked(
    broker: Broker, run: str
) -> None:
    model = ScriptedAnswers()
    policed = PolicedModel(model, Asker(role="coder", model="scripted"), NONE)
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as log:
        agent = AGENTS["coder"](log, policed)
        async with in_background(agent.run(WorkQueue(log, queue_name("coder"), lease_s=1.0))):
            await coordinator.append(assigned(run))
            await settled(coordinator)
        (failed,) = payloads(await said(coordinator, run), StepFailed)
        assert (failed.code, failed.retryable) == ("call_denied", False)
        assert "scripted" in failed.message
        assert model.calls == []
