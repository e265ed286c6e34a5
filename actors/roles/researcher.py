"""The researcher gathers what is known about the job before anybody plans it."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import RoleAnswer, RoleSpec, Sentence, load_prompt


class Research(RoleAnswer):
    """What is known, and what may go wrong."""

    findings: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=4, description="Facts or known methods that help."),
    ]
    risks: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=2, description="What may go wrong."),
    ]


RESEARCHER: Final = RoleSpec(
    name="researcher",
    task="research",
    title="Research",
    answer=Research,
    prompt=load_prompt("researcher"),
    recalls=True,
)
