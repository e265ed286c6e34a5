"""Tools: what can be one, and what they do with what they are given."""

from collections.abc import Mapping

import pytest
from pydantic import BaseModel

from actors.code_tool import Program, code_tools
from actors.errors import InvalidTool, ToolFailed, ToolMisused
from actors.sandbox.outcome import Outcome
from actors.sandbox.sandbox import Sandbox
from actors.tool import tool
from bus.payloads import StepAssigned

STEP = StepAssigned(
    step="test",
    iteration=1,
    attempt=1,
    role="tester",
    objective="Add",
    inputs={"code": {"language": "python", "code": "def add(a, b): return a + b"}},
    deadline_s=30,
)


class Words(BaseModel):
    text: str


class Count(BaseModel):
    words: int


@tool
async def count_words(wanted: Words) -> Count:
    """Counts the words
    of a text."""
    return Count(words=len(wanted.text.split()))


async def test_a_function_is_a_tool_by_its_name_docstring_and_types() -> None:
    assert count_words.name == "count_words"
    assert count_words.description == "Counts the words of a text."
    assert count_words.schema["required"] == ["text"]
    assert await count_words.call({"text": "one two"}, STEP) == {"words": 2}


async def test_a_tool_may_read_the_step() -> None:
    @tool
    async def objective(_wanted: Words, assigned: StepAssigned) -> Words:
        """Repeats what is to be done."""
        return Words(text=assigned.objective)

    assert await objective.call({"text": ""}, STEP) == {"text": "Add"}


async def test_arguments_of_another_shape_are_refused() -> None:
    with pytest.raises(ToolMisused, match="count_words: text: Field required"):
        await count_words.call({}, STEP)


async def test_what_a_function_raises_is_the_failure_of_the_tool() -> None:
    @tool
    async def broken(wanted: Words) -> Count:
        """Fails."""
        raise ValueError(wanted.text)

    with pytest.raises(ToolFailed, match="broken failed: ValueError: made up"):
        await broken.call({"text": "made up"}, STEP)


async def test_an_answer_of_another_type_is_a_failure() -> None:
    @tool
    async def other(wanted: Words) -> Count:
        """Answers something else."""
        return wanted  # type: ignore[return-value]

    with pytest.raises(ToolFailed, match="did not give a Count"):
        await other.call({"text": ""}, STEP)


async def nameless(wanted: Words) -> Count:
    return Count(words=len(wanted.text))


async def untyped(wanted):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Has no types."""
    return wanted


async def with_more(wanted: Words, more: int) -> Count:
    """Takes more."""
    return Count(words=more + len(wanted.text))


def synchronous(wanted: Words) -> Count:
    """Is not async."""
    return Count(words=len(wanted.text))


@pytest.mark.parametrize("function", [nameless, untyped, with_more, synchronous])
def test_other_functions_are_no_tools(function: object) -> None:
    with pytest.raises(InvalidTool):
        tool(function)  # type: ignore[arg-type]


class Refusing(Sandbox):
    """Runs nothing, and keeps what it was to run."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[dict[str, str]] = []

    async def run(self, files: Mapping[str, str], *_: str) -> Outcome:
        self.files.append(dict(files))
        return Outcome(
            ending="finished",
            exit_status=0,
            stdout="fine",
            stderr="",
            wall_s=0.1,
            cpu_s=0.1,
            memory_bytes=1,
            files=1,
            left_behind=0,
        )


async def test_the_tester_runs_its_tests_over_the_code_that_its_step_reads() -> None:
    box = Refusing()
    (run_tests,) = code_tools("tester", box)

    answer = await run_tests.call({"tests": "def test(): assert add(1, 1) == 2"}, STEP)

    assert answer == {
        "ending": "finished",
        "exit_status": 0,
        "stdout": "fine",
        "stderr": "",
        "wall_s": 0.1,
    }
    assert box.files == [
        {
            "solution.py": "def add(a, b): return a + b",
            "test_solution.py": "from solution import *\n\ndef test(): assert add(1, 1) == 2",
        }
    ]


@pytest.mark.parametrize("inputs", [{}, {"code": {"language": "go", "code": "package main"}}])
async def test_code_that_is_not_there_or_not_python_is_not_run(
    inputs: dict[str, dict[str, str]],
) -> None:
    box = Refusing()
    (run_tests,) = code_tools("tester", box)
    step = STEP.model_copy(update={"inputs": inputs})

    with pytest.raises(ToolMisused):
        await run_tests.call({"tests": "def test(): pass"}, step)
    assert not box.files


def test_only_coder_and_tester_run_code() -> None:
    assert [each.name for each in code_tools("coder")] == ["run_python"]
    assert code_tools("critic") == ()
    assert "code" in Program.model_json_schema()["properties"]
