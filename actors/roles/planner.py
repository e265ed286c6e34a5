"""The planner has two tasks: pseudocode before the work, completion after it."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import Paragraph, RoleAnswer, RoleSpec, Sentence, load_prompt


class Pseudocode(RoleAnswer):
    """The way to the result, step by step."""

    steps: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=4, description="The steps of the solution, in order."),
    ]
    edge_cases: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="Unusual inputs, and what happens then."),
    ]


class Completion(RoleAnswer):
    """What was made, and what is left to do."""

    summary: Annotated[Paragraph, Field(description="What was made, in one or two sentences.")]
    deliverables: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=3, description="What is ready for use."),
    ]
    next_steps: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What a person should do next."),
    ]


PSEUDOCODE: Final = RoleSpec(
    name="planner",
    task="pseudocode",
    title="Pseudocode",
    answer=Pseudocode,
    prompt=load_prompt("planner"),
)
COMPLETION: Final = RoleSpec(
    name="planner",
    task="completion",
    title="Completion",
    answer=Completion,
    prompt=load_prompt("planner_completion"),
)
