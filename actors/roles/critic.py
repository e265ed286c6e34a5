"""The critic reads the code against the specification."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import RoleAnswer, RoleSpec, Sentence, load_prompt


class Critique(RoleAnswer):
    """What is good, what is wrong, what to do about it."""

    strengths: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What is good and should stay."),
    ]
    problems: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What is wrong; say so if nothing is."),
    ]
    suggestions: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What to change, one change each."),
    ]


CRITIC: Final = RoleSpec(
    name="critic",
    task="critique",
    title="Critique",
    answer=Critique,
    prompt=load_prompt("critic"),
)
