"""Tools that run code: a program of the coder's, tests of the tester's over the coder's code."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from actors.errors import ToolMisused
from actors.sandbox.outcome import Ending, Limits, Outcome
from actors.sandbox.sandbox import Sandbox
from actors.tool import PythonTool, Tool
from bus.payloads import StepAssigned

LIMITS: Final = Limits(output_bytes=2_048)
"""What a model is shown of an output is short."""
_TIMEOUT_S: Final = LIMITS.wall_s + 20
_SOLUTION: Final = "solution"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Program(_Model):
    """What `run_python` runs."""

    code: str = Field(min_length=1, max_length=4_000, description="A whole Python program.")


class Tests(_Model):
    """What `run_tests` runs."""

    __test__ = False  # not a test case for pytest, in spite of its name

    tests: str = Field(
        min_length=1,
        max_length=4_000,
        description=f"Test functions for pytest; the code is the module {_SOLUTION}.",
    )


class Ran(_Model):
    """What came of it."""

    ending: Ending
    exit_status: int | None
    stdout: str
    stderr: str
    wall_s: float


def code_tools(role: str, sandbox: Sandbox | None = None) -> tuple[Tool, ...]:
    """The tools of a role that run code; for most roles there are none."""
    box = sandbox or Sandbox(LIMITS)

    async def run_python(program: Program) -> Ran:
        return _ran(await box.run({"main.py": program.code}, "main.py"))

    async def run_tests(wanted: Tests, assigned: StepAssigned) -> Ran:
        tests = f"from {_SOLUTION} import *\n\n{wanted.tests}"
        files = {f"{_SOLUTION}.py": _code_in(assigned), f"test_{_SOLUTION}.py": tests}
        return _ran(await box.run_tests(files))

    tools: Mapping[str, PythonTool] = {
        "coder": PythonTool(
            name="run_python",
            description="Runs a program of Python, without a network, and tells what it printed.",
            arguments=Program,
            answer=Ran,
            function=run_python,
            timeout_s=_TIMEOUT_S,
        ),
        "tester": PythonTool(
            name="run_tests",
            description="Runs pytest over the code that is to be tested.",
            arguments=Tests,
            answer=Ran,
            function=run_tests,
            reads_step=True,
            timeout_s=_TIMEOUT_S,
        ),
    }
    return (tools[role],) if role in tools else ()


def _code_in(assigned: StepAssigned) -> str:
    """The code among the answers that the step reads.

    Raises:
        ToolMisused: there is none, or it is of another language.
    """
    for answer in reversed(assigned.inputs.values()):
        code, language = answer.get("code"), answer.get("language")
        if isinstance(code, str):
            if str(language).lower() not in ("python", "python3", "py"):
                raise ToolMisused(f"the code is {str(language)[:40]!r}; only Python can be run")
            return code
    raise ToolMisused("the step reads no code")


def _ran(outcome: Outcome) -> Ran:
    return Ran(
        ending=outcome.ending,
        exit_status=outcome.exit_status,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        wall_s=outcome.wall_s,
    )
