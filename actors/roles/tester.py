"""The tester works through the code by example, or runs it, and says what comes out."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import RoleAnswer, RoleSpec, Sentence, load_prompt


class TestReport(RoleAnswer):
    """Cases worked through by reading, or by tests that a tool has run."""

    __test__ = False  # not a test case for pytest, in spite of its name

    cases: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=3, description="Each case: input, expected, found."),
    ]
    failures: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What went wrong; say so if nothing did."),
    ]
    passed: Annotated[bool, Field(description="true if every case came out as expected.")]


TESTER: Final = RoleSpec(
    name="tester",
    task="test",
    title="Test",
    answer=TestReport,
    prompt=load_prompt("tester"),
    prompt_with_tools=load_prompt("tester_with_tools"),
)
