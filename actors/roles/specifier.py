"""The specifier says what is wanted and how one will know that it is there."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import Paragraph, RoleAnswer, RoleSpec, Sentence, load_prompt


class Specification(RoleAnswer):
    """What is to be built."""

    summary: Annotated[Paragraph, Field(description="What is wanted, in one or two sentences.")]
    requirements: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=3, description="What the result must do, most vital first."),
    ]
    acceptance: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="Checks that show that it is done."),
    ]


SPECIFIER: Final = RoleSpec(
    name="specifier",
    task="specification",
    title="Specification",
    answer=Specification,
    prompt=load_prompt("specifier"),
    recalls=True,
)
