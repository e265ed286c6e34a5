"""The coder writes the code, and in a later round mends it."""

from typing import Annotated, Final

from pydantic import Field

from actors.roles.role import RoleAnswer, RoleSpec, Sentence, load_prompt

LANGUAGES: Final = ("python", "go", "rust", "java", "typescript", "c", "sql", "bash")
"""What a model may choose from; an answer in another language is accepted all the same."""


class Code(RoleAnswer):
    """One self-contained piece of code."""

    language: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20,
            description="The programming language.",
            json_schema_extra={"enum": list(LANGUAGES)},
        ),
    ]
    code: Annotated[
        str,
        Field(
            min_length=1,
            max_length=400,
            description="The complete code, ready to run.",
            json_schema_extra={"minLength": 40},  # a small model would write a word
        ),
    ]
    explanation: Annotated[Sentence, Field(description="How it works, in one sentence.")]


CODER: Final = RoleSpec(
    name="coder",
    task="code",
    title="Code",
    answer=Code,
    prompt=load_prompt("coder"),
)
