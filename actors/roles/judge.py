"""The judge decides whether a round of work is good enough."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import RoleAnswer, RoleSpec, Sentence, load_prompt


class Verdict(RoleAnswer):
    """Reasons first: a model that writes them before the verdict decides by them."""

    reasons: Annotated[
        tuple[Sentence, ...],
        Field(min_length=1, max_length=3, description="Why the work is good enough or not."),
    ]
    changes: Annotated[
        tuple[Sentence, ...],
        Field(max_length=2, description="What must change; empty if the work is accepted."),
    ]
    accepted: Annotated[bool, Field(description="true to accept the work, false to go again.")]


JUDGE: Final = RoleSpec(
    name="judge",
    task="verdict",
    title="Verdict",
    answer=Verdict,
    prompt=load_prompt("judge"),
)
