"""A user's own agents and workflows, run by a coordinator on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from actors.application import Application, ApplicationSource
from actors.definition import definition_of
from actors.team import AGENTS, agent_class
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import RunCompleted, RunFailed, RunSubmitted, StepCompleted, StepFailed
from bus.work import WorkQueue
from policies.capabilities import Capabilities, queue_name
from tests.broker import Broker
from tests.integration.actors.assigning import payloads
from tests.swarming import ScriptedAnswers, coordinator, in_background, readable, until_end

EXAMPLES = Path(__file__).parents[3] / "examples"
FAILING = """
from actors.application import *

class Count(RoleAnswer):
    words: int

class Counter(FunctionAgent):
    role = "counter"

    async def answer(self, assigned: StepAssigned) -> Count:
        raise ValueError("made up")

application = Application(
    agents=(Counter,),
    workflows=(WorkflowSpec(name="counted", nodes=(
        Counter.step("count", max_attempts=2, backoff_s=0),
    )),),
)
"""


@asynccontextmanager
async def swarm_of(source: ApplicationSource, directory: Path) -> AsyncIterator[Broker]:
    """A broker, a coordinator and an agent of each role, those of the application included."""
    application = source.load()
    broker = Broker(directory, policy=Capabilities.shipped(application.roles))
    await broker.start()
    try:
        await broker.provision(lease_s=1.0)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(coordinator(broker))
            for role in (*AGENTS, *application.roles):
                log = await stack.enter_async_context(broker.joined(role))
                member = agent_class(role, source).join(log, ScriptedAnswers())
                queue = WorkQueue(log, queue_name(role), lease_s=1.0)
                await stack.enter_async_context(in_background(member.run(queue)))
            yield broker
    finally:
        await broker.stop()


async def run_one(
    broker: Broker, application: Application, workflow: str, run: str, objective: str
) -> list[StoredEvent]:
    payload = RunSubmitted(
        objective=objective,
        workflow=workflow,
        model="scripted",
        requested_by="admin",
        definition=definition_of(application.with_shipped()[workflow]),
    )
    async with broker.joined("gateway") as gateway:
        await gateway.append(Draft(run=run, payload=payload, id=derive_id("run.submitted", run)))
        return await until_end(gateway, run)


async def test_the_agent_of_the_example_answers_without_a_model(tmp_path: Path, run: str) -> None:
    source = ApplicationSource.read(EXAMPLES / "own_agent.py")
    async with swarm_of(source, tmp_path) as broker:
        events = await run_one(broker, source.load(), "counted", run, "Say hello to the world")
    assert isinstance(events[-1].payload(), RunCompleted), readable(events)
    (completed,) = payloads(events, StepCompleted)
    assert completed.answer == {"words": 5, "longest": "hello"}
    assert completed.model == "none"


async def test_the_workflow_of_the_example_goes_through_its_own_role(
    tmp_path: Path, run: str
) -> None:
    source = ApplicationSource.read(EXAMPLES / "own_workflow.py")
    async with swarm_of(source, tmp_path) as broker:
        events = await run_one(broker, source.load(), "explain", run, "Explain tides to a child")
    ended = events[-1].payload()
    assert isinstance(ended, RunCompleted), readable(events)
    assert ended.steps == 3
    completed = [event for event in events if event.event.type == StepCompleted.TYPE]
    assert [event.event.role for event in completed] == ["researcher", "teacher", "critic"]
    lesson = completed[1].payload()
    assert isinstance(lesson, StepCompleted)
    assert set(lesson.answer) == {"explanation", "question"}


async def test_a_function_that_fails_is_tried_again_and_fails_the_run_with_its_reason(
    tmp_path: Path, run: str
) -> None:
    path = tmp_path / "failing.py"
    path.write_text(FAILING)
    source = ApplicationSource.read(path)
    async with swarm_of(source, tmp_path) as broker, asyncio.timeout(60):
        events = await run_one(broker, source.load(), "counted", run, "Say hello")
    failures = payloads(events, StepFailed)
    assert [each.code for each in failures] == [
        "function_failed",
        "function_failed",
    ]
    ended = events[-1].payload()
    assert isinstance(ended, RunFailed)
    assert "made up" in ended.message
