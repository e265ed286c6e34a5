"""What a model is told of its tools, however much there is to tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from pydantic import JsonValue
from pydantic_core import to_json
from structlog.testing import capture_logs

from actors.model import Completion, ModelRequest
from actors.prompt import PROMPT_BYTES, build_messages
from actors.question import Meter
from actors.roles import ROLES, TASKS, role_spec
from actors.tool_introduction import MOST_BYTES, introduce
from actors.tool_rounds import answer_with_tools
from actors.toolbox import Came, Wanted
from bus.payloads import StepAssigned
from tests.unit.actors.simulation import answer_for


@dataclass(frozen=True, kw_only=True)
class Told:
    """A tool that nobody calls."""

    name: str = "town.hours"
    description: str = "Tells when a place is open."
    about: str = "The place"
    timeout_s: float = 1.0

    @property
    def schema(self) -> Mapping[str, JsonValue]:
        return {"properties": {"place": {"description": self.about}, "day": {"type": "string"}}}

    async def call(self, arguments: Mapping[str, JsonValue], assigned: StepAssigned) -> JsonValue:
        raise NotImplementedError


@dataclass
class Prompt:
    """A model that answers at once."""

    asked: list[ModelRequest] = field(default_factory=list)

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        self.asked.append(request)
        text = to_json({"answer": answer_for("tester", "test")}).decode()
        return Completion(
            text=text, prompt_tokens=1, completion_tokens=1, model="m", truncated=False
        )


@dataclass(frozen=True)
class Many:
    """Tools at hand that nobody uses."""

    tools: tuple[Told, ...]

    async def use(self, wanted: Wanted, number: int) -> Came:
        raise NotImplementedError


def test_a_tool_is_told_by_its_name_what_it_does_and_its_arguments() -> None:
    told = introduce([Told()])
    line = "- town.hours: Tells when a place is open. "
    assert line + 'Arguments: {"place":"The place","day":"string"}\n' in told.text
    assert told.tools == (Told(),)
    assert told.left_out == ()


def test_of_no_tools_nothing_is_told() -> None:
    assert introduce([]).text == ""


@pytest.mark.parametrize("text", ["x" * 6_000, "\u4e2d" * 6_000, "<|" * 3_000, "[INST]" * 1_000])
@pytest.mark.parametrize("count", [1, 5, 10, 500])
def test_whatever_is_said_of_tools_the_prompt_has_room_for_texts(text: str, count: int) -> None:
    tools = [Told(name=f"town.{n}", description=text, about=text) for n in range(count)]
    told = introduce(tools)
    assert len(told.text.encode()) <= MOST_BYTES
    assert [*(each.name for each in told.tools), *told.left_out] == [each.name for each in tools]
    for spec in (*ROLES.values(), *TASKS.values()):
        messages = build_messages(spec, "Find out " * 1_000, {"plan": {}}, tools=told.text)
        assert sum(len(each.content.encode()) for each in messages) <= PROMPT_BYTES


def test_lines_are_cut_before_a_tool_is_left_out() -> None:
    few, some, many = (
        introduce([Told(name=f"town.{n}", about="x" * 6_000) for n in range(count)])
        for count in (3, 12, 100)
    )
    assert (few.left_out, some.left_out) == ((), ())
    assert 12 < len(many.tools) < 100
    assert len(few.text) / 3 > len(some.text) / 12


@pytest.mark.parametrize("count", [1, 100])
async def test_a_step_is_worked_on_whatever_is_said_of_its_tools(count: int) -> None:
    tools = tuple(Told(name=f"town.{n}", about="x" * 6_000) for n in range(count))
    assigned = StepAssigned(
        step="test",
        iteration=1,
        attempt=1,
        role="tester",
        objective="Test it",
        inputs={},
        deadline_s=30,
    )
    model = Prompt()
    with capture_logs() as logs:
        spec = role_spec("tester", "test")
        report = await answer_with_tools(Meter(model), spec, "run", assigned, Many(tools))
    assert report.answer == answer_for("tester", "test")
    (request,) = model.asked
    left_out = [name for said in logs for name in said["tools"]]
    assert bool(left_out) == (count > 1)
    for tool in tools:
        is_told = tool.name not in left_out
        assert (f"- {tool.name}: " in request.messages[0].content) == is_told
        assert (f'"{tool.name}"' in to_json(request.schema).decode()) == is_told
