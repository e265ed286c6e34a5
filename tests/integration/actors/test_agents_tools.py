"""Agents that use tools, on a real broker: each call is an event, and so is what came of it."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import BaseModel, JsonValue

from actors.application import Application, ApplicationSource
from actors.code_tool import code_tools
from actors.definition import definition_of
from actors.errors import CannotCheck
from actors.mcp_servers import McpServer
from actors.mcp_tool import tools_of
from actors.model import Completion, ModelRequest
from actors.recheck import difference, question_of, recorded_in
from actors.replay import replay
from actors.roles import role_spec
from actors.step import StepSpec
from actors.step_agent import StepAgent
from actors.team import agent_class
from actors.tool import Tool, tool
from actors.toolbox import Toolbox
from actors.workflow import WorkflowSpec
from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import RunCompleted, RunSubmitted, StepCompleted, StepFailed
from bus.tool_payloads import ToolAnswered, ToolCalled
from bus.work import WorkQueue
from policies.capabilities import Capabilities, queue_name, shipped_source
from tests.broker import Broker
from tests.integration.actors import mcp_server
from tests.integration.actors.assigning import kinds, payloads
from tests.swarming import ScriptedAnswers, coordinator, in_background, readable, until_end

EXAMPLES = Path(__file__).parents[3] / "examples"
CODE: dict[str, JsonValue] = {
    "language": "python",
    "code": "def add(a, b):\n    return a - b\n",
    "explanation": "It adds two numbers to each other.",
}
REPORT: dict[str, JsonValue] = {
    "cases": ["One and one gave zero."],
    "failures": ["The sum of one and one was zero."],
    "passed": False,
}
TESTS = "def test_add():\n    assert add(1, 1) == 2\n"


@dataclass
class Answers:
    """Says one thing after the other, and keeps what it was asked."""

    texts: list[JsonValue]
    asked: list[str] = field(default_factory=list)
    schemas: list[Mapping[str, JsonValue]] = field(default_factory=list)

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        self.asked.append(request.messages[-1].content)
        self.schemas.append(request.schema or {})
        return Completion(
            text=json.dumps(self.texts.pop(0)),
            prompt_tokens=10,
            completion_tokens=5,
            model="scripted",
        )


@asynccontextmanager
async def working(
    broker: Broker,
    role: str,
    model: Answers | ScriptedAnswers,
    tools: Callable[[StepAgent], Toolbox] | None = None,
    source: ApplicationSource | None = None,
) -> AsyncIterator[None]:
    async with broker.joined(role) as log:
        agent = agent_class(role, source).join(log, model)
        assert isinstance(agent, StepAgent)
        if tools is not None:
            agent.equip(tools(agent))
        async with in_background(agent.run(WorkQueue(log, queue_name(role), lease_s=5.0))):
            yield


@asynccontextmanager
async def swarm(directory: Path, policy: Capabilities) -> AsyncIterator[Broker]:
    broker = Broker(directory, policy=policy)
    await broker.start()
    try:
        await broker.provision(lease_s=5.0)
        async with coordinator(broker):
            yield broker
    finally:
        await broker.stop()


async def run_one(broker: Broker, workflow: WorkflowSpec, run: str) -> list[StoredEvent]:
    payload = RunSubmitted(
        objective="Add two numbers",
        workflow=workflow.name,
        model="scripted",
        requested_by="admin",
        definition=definition_of(workflow),
    )
    async with broker.joined("gateway") as gateway:
        await gateway.append(Draft(run=run, payload=payload, id=derive_id("run.submitted", run)))
        return await until_end(gateway, run)


def own(policy: Capabilities, *tools: Tool) -> Callable[[StepAgent], Toolbox]:
    return lambda agent: Toolbox(agent.role, tools, policy)


def allowing(role_tools: str) -> Capabilities:
    """The shipped policy, with the tools of the coder replaced."""
    text = shipped_source().decode()
    assert "tools: [run_python]" in text
    return Capabilities(text.replace("tools: [run_python]", f"tools: [{role_tools}]").encode())


CODED = WorkflowSpec(
    name="coded", nodes=(StepSpec(name="code", role="coder", max_attempts=1, deadline_s=60),)
)
TESTED = WorkflowSpec(
    name="tested",
    nodes=(
        StepSpec(name="code", role="coder", max_attempts=1),
        StepSpec(name="test", role="tester", inputs=("code",), max_attempts=1, deadline_s=60),
    ),
)


async def test_the_tester_runs_the_coders_code_and_its_answer_rests_on_what_came_out(
    tmp_path: Path, run: str
) -> None:
    policy = Capabilities.shipped()
    model = Answers([{"call": "run_tests", "arguments": {"tests": TESTS}}, {"answer": REPORT}])
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", Answers([CODE])),
        working(broker, "tester", model, own(policy, *code_tools("tester"))),
    ):
        events = await run_one(broker, TESTED, run)

    assert kinds(events)[-5:] == [
        "step.claimed",
        "tool.called",
        "tool.answered",
        "step.completed",
        "run.completed",
    ]
    (called,) = payloads(events, ToolCalled)
    (answered,) = payloads(events, ToolAnswered)
    assert (called.tool, called.call, called.step) == ("run_tests", 1, "test")
    assert called.arguments == {"tests": TESTS}
    assert answered.outcome == "answered"
    assert isinstance(answered.result, dict)
    assert answered.result["exit_status"] == 1
    assert "assert 0 == 2" in str(answered.result["stdout"])
    written = json.dumps(answered.result, separators=(",", ":"), ensure_ascii=False).encode()
    assert answered.digest == hashlib.sha256(written).hexdigest()
    assert "1 failed" in model.asked[1]
    assert "answer" not in json.dumps(model.schemas[0])
    completed = payloads(events, StepCompleted)[-1]
    assert completed.answer == REPORT
    assert (completed.usage.prompt_tokens, completed.usage.completion_tokens) == (20, 10)


CALL: JsonValue = {"call": "run_python", "arguments": {"code": "print(6 * 7)"}}


@pytest.mark.parametrize(
    ("said", "may_call"),
    [
        ([CALL, {"answer": CODE}], True),
        ([CALL, CALL, CODE], False),  # who repeats a call has no tools for the answer
        ([{"answer": CODE}], True),
    ],
)
async def test_an_answer_of_an_agent_with_tools_can_be_asked_for_again(
    tmp_path: Path, run: str, said: list[JsonValue], *, may_call: bool
) -> None:
    policy, tools = Capabilities.shipped(), code_tools("coder")
    model = Answers(list(said))
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", model, own(policy, *tools)),
    ):
        events = await run_one(broker, CODED, run)
    (answer,) = [each for each in events if isinstance(each.payload(), StepCompleted)]
    recorded, spec = recorded_in(events, answer.event.id), role_spec("coder", "code")
    rebuilt = question_of(recorded, spec, tools=tools)
    assert rebuilt.request.messages[-1].content == model.asked[-1]
    assert rebuilt.request.schema == model.schemas[-1]
    assert rebuilt.with_tools == may_call

    def differs(text: JsonValue) -> str:
        return difference(recorded, spec, json.dumps(text), with_tools=may_call)

    other = {**CODE, "language": "c"}
    assert differs(said[-1]) == ""
    assert "language" in differs({"answer": other} if may_call else other)
    told = "it calls the tool run_python now" if may_call else "it is no answer now"
    assert told in differs(CALL)
    with pytest.raises(CannotCheck, match="have none here" if len(said) > 1 else "prompt differs"):
        question_of(recorded, spec)
    if may_call:  # otherwise it was told of none
        with pytest.raises(CannotCheck, match="or its tools are others"):
            question_of(recorded, spec, tools=code_tools("tester"))


async def test_calls_are_chained_signed_and_caused_and_change_no_decision(
    tmp_path: Path, run: str
) -> None:
    policy = Capabilities.shipped()
    calls: list[JsonValue] = [{"call": "run_python", "arguments": {"code": "print(6 * 7)"}}]
    async with (
        swarm(tmp_path, policy) as broker,
        working(
            broker, "coder", Answers([*calls, {"answer": CODE}]), own(policy, *code_tools("coder"))
        ),
    ):
        events = await run_one(broker, CODED, run)

    by_kind = {event.event.type.removeprefix("swarm."): event.event for event in events}
    claim, called = by_kind["step.claimed.v1"], by_kind["tool.called.v1"]
    answered, completed = by_kind["tool.answered.v1"], by_kind["step.completed.v1"]
    assert called.cause == claim.id
    assert called.id == derive_id("tool.called", claim.id, "1")
    assert answered.cause == called.id
    assert answered.id == derive_id("tool.answered", claim.id, "1")
    assert [event.sequence for event in (claim, called, answered, completed)] == list(
        range(claim.sequence, claim.sequence + 4)
    )
    assert called.subject.endswith(".tool.called.coder")
    again = replay(events)
    assert again.is_equal, again.divergence


async def test_a_tool_that_the_policy_does_not_name_is_not_called_and_that_is_recorded(
    tmp_path: Path, run: str
) -> None:
    made = []

    class Nothing(BaseModel):
        pass

    @tool
    async def secret(wanted: Nothing) -> Nothing:
        """Does what nobody may do."""
        made.append(wanted)
        return wanted

    policy = allowing("run_python")
    turns: list[JsonValue] = [{"call": "secret", "arguments": {}}, {"answer": CODE}]
    model = Answers(turns)
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", model, own(policy, secret, *code_tools("coder"))),
    ):
        events = await run_one(broker, CODED, run)

    (answered,) = payloads(events, ToolAnswered)
    assert not made
    assert (answered.outcome, answered.code, answered.digest) == ("refused", "call_denied", "")
    assert "no capability to call tool 'secret'" in answered.message
    assert "secret" not in json.dumps(model.schemas[0])
    assert "refused: " in model.asked[1]
    assert isinstance(events[-1].payload(), RunCompleted)


async def test_a_role_without_an_allowed_tool_asks_as_if_there_were_none(
    tmp_path: Path, run: str
) -> None:
    policy = allowing("other")
    model = Answers([CODE])
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", model, own(policy, *code_tools("coder"))),
    ):
        events = await run_one(broker, CODED, run)

    assert not payloads(events, ToolCalled)
    assert "anyOf" not in model.schemas[0]
    assert isinstance(events[-1].payload(), RunCompleted), readable(events)


async def test_a_tool_that_hangs_or_fails_is_told_to_the_model_which_goes_on(
    tmp_path: Path, run: str
) -> None:
    class Nothing(BaseModel):
        pass

    async def hang(_: Nothing) -> Nothing:
        await asyncio.Event().wait()
        raise AssertionError

    @tool
    async def fail(_: Nothing) -> Nothing:
        """Fails."""
        raise ValueError("made up")

    @tool
    async def large(_: Nothing) -> Text:
        """Answers without end."""
        return Text(text="x" * 200_000)

    slow = type(fail)(
        name="slow",
        description="Hangs.",
        arguments=Nothing,
        answer=Nothing,
        function=hang,
        timeout_s=0.2,
    )
    policy = allowing("slow, fail, large")
    names = ("slow", "fail", "large")
    turns: list[JsonValue] = [{"call": name, "arguments": {}} for name in names]
    async with (
        swarm(tmp_path, policy) as broker,
        working(
            broker, "coder", Answers([*turns, {"answer": CODE}]), own(policy, slow, fail, large)
        ),
    ):
        events = await run_one(broker, CODED, run)

    answered = payloads(events, ToolAnswered)
    assert [(each.call, each.outcome) for each in answered] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]
    assert [each.message.split(":")[0] for each in answered] == [
        "slow gave no answer within 0.2 s",
        "fail failed",
        "large answered 200011 bytes, at most 65536",
    ]
    assert isinstance(events[-1].payload(), RunCompleted)


class Text(BaseModel):
    text: str


async def test_a_model_that_only_calls_has_to_answer_in_the_end(tmp_path: Path, run: str) -> None:
    policy = allowing("count")

    @tool
    async def count(wanted: Text) -> Text:
        """Counts."""
        return Text(text=str(len(wanted.text)))

    turns: list[JsonValue] = [
        {"call": "count", "arguments": {"text": "x" * number}} for number in range(4)
    ]
    model = Answers([*turns, CODE])
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", model, own(policy, count)),
    ):
        events = await run_one(broker, CODED, run)

    assert len(payloads(events, ToolCalled)) == 4
    assert "anyOf" not in model.schemas[-1]
    assert isinstance(events[-1].payload(), RunCompleted)


async def test_a_call_that_repeats_an_earlier_one_is_not_made_again(
    tmp_path: Path, run: str
) -> None:
    policy = allowing("count")

    @tool
    async def count(wanted: Text) -> Text:
        """Counts."""
        return wanted

    turns: list[JsonValue] = [{"call": "count", "arguments": {"text": "x"}}] * 2
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", Answers([*turns, CODE]), own(policy, count)),
    ):
        events = await run_one(broker, CODED, run)

    assert len(payloads(events, ToolCalled)) == 1
    assert isinstance(events[-1].payload(), RunCompleted)


async def test_what_was_spent_in_vain_counts_every_question(tmp_path: Path, run: str) -> None:
    policy = allowing("count")

    @tool
    async def count(wanted: Text) -> Text:
        """Counts."""
        return wanted

    turns: list[JsonValue] = [{"call": "count", "arguments": {"text": "x"}}, {"neither": 1}]
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", Answers(turns), own(policy, count)),
    ):
        events = await run_one(broker, CODED, run)

    (failed,) = payloads(events, StepFailed)
    assert failed.code == "answer_rejected"
    assert failed.usage is not None
    assert failed.usage.prompt_tokens == 20


async def test_each_call_of_a_servers_tool_is_recorded_whatever_it_does(
    tmp_path: Path, run: str
) -> None:
    there = McpServer(command=(sys.executable, mcp_server.__file__), roles=("coder",), timeout_s=20)
    tools = await tools_of({"town": there}, "coder")
    policy = allowing("town.hours, town.die, town.flood")
    turns: list[JsonValue] = [
        {"call": "town.flood", "arguments": {}},
        {"call": "town.die", "arguments": {}},
        {"call": "town.hang", "arguments": {}},
        {"call": "town.hours", "arguments": {"place": "library"}},
        CODE,
    ]
    model = Answers(turns)
    async with (
        swarm(tmp_path, policy) as broker,
        working(broker, "coder", model, own(policy, *tools)),
    ):
        events = await run_one(broker, CODED, run)

    answered = payloads(events, ToolAnswered)
    assert [(each.tool, each.outcome, each.code) for each in answered] == [
        ("town.flood", "failed", "tool_failed"),
        ("town.die", "failed", "mcp_server_failed"),
        ("town.hang", "refused", "call_denied"),
        ("town.hours", "answered", ""),
    ]
    assert "library: 9 to 18" in str(answered[-1].result)
    assert "library: 9 to 18" in model.asked[-1]
    assert isinstance(events[-1].payload(), RunCompleted)


async def test_the_tool_of_the_example_is_called_where_the_policy_names_it(
    tmp_path: Path, run: str
) -> None:
    source = ApplicationSource.read(EXAMPLES / "own_tool.py")
    application: Application = source.load()
    text = shipped_source().decode()
    named = text.replace('models: ["*"]\n', 'models: ["*"]\n    tools: [opening_hours]\n', 1)
    policy = Capabilities(named.encode(), application.roles)
    workflow = application.with_shipped()["guided"]
    async with (
        swarm(tmp_path, policy) as broker,
        working(
            broker,
            "guide",
            ScriptedAnswers(),
            lambda agent: Toolbox(agent.role, agent.tools, policy),
            source,
        ),
    ):
        events = await run_one(broker, workflow, run)

    called = payloads(events, ToolCalled)
    assert [each.tool for each in called] == ["opening_hours"] * len(called)
    assert 1 <= len(called) <= 4
    assert [each.result for each in payloads(events, ToolAnswered)] == [
        {"open": "not known"}
    ] * len(called)
    assert isinstance(events[-1].payload(), RunCompleted), readable(events)
