"""The architect divides the solution into parts and says why so."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import Paragraph, RoleAnswer, RoleSpec, Sentence, load_prompt


class Architecture(RoleAnswer):
    """The parts of the solution and the choices behind them."""

    overview: Annotated[Paragraph, Field(description="The shape of the solution, in short.")]
    components: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=3, description="Each part: its name, then its duty."),
    ]
    decisions: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="Choices made, each with its reason."),
    ]


ARCHITECT: Final = RoleSpec(
    name="architect",
    task="architecture",
    title="Architecture",
    answer=Architecture,
    prompt=load_prompt("architect"),
)
