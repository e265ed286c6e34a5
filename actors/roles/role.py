"""What a role is: a prompt, the shape of its answer, and how long that answer may be."""

from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
)

from actors.errors import AnswerRejected

MAX_TOKENS: Final = 480
"""Tokens for one answer. The bounds of every answer keep its JSON under three times as many
characters, so that a small model closes it before it is cut off."""
_REASON_CHARS: Final = 80


def _prose(most_words: int) -> WithJsonSchema:
    """Constrains a model to a sentence: without it a small one fills a text with numbers.

    The pattern bounds the length as well; xgrammar takes a pattern or a length, not both.
    """
    pattern = rf"^[A-Z][a-z]{{0,12}}( [^ .\"\\]{{1,12}}){{4,{most_words}}}[.]$"
    return WithJsonSchema({"type": "string", "pattern": pattern})


Sentence = Annotated[str, Field(min_length=1, max_length=200), _prose(14)]
Paragraph = Annotated[str, Field(min_length=1, max_length=280), _prose(20)]


class RoleAnswer(BaseModel):
    """A role's answer. Its field order is the order in which the model writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """One task of one role.

    Attributes:
        name: the role, as in credentials, subjects and policies.
        task: which of the role's tasks this is; most roles have one.
        title: for people.
        answer: the shape of the answer.
        prompt: instructions, the system message without the list of fields.
        max_tokens: the longest answer, in tokens.
        recalls: whether it is told what the memory holds about the objective.
        prompt_with_tools: the instructions for an agent that has tools, if they are others.
    """

    name: str
    task: str
    title: str
    answer: type[BaseModel]
    prompt: str
    max_tokens: int = MAX_TOKENS
    recalls: bool = False
    prompt_with_tools: str = ""

    @property
    def schema(self) -> dict[str, JsonValue]:
        """The JSON schema that constrains the model; it has no references."""
        return self.answer.model_json_schema()

    def fields(self) -> dict[str, dict[str, JsonValue]]:
        """The schema of each field of the answer, in the order in which they are written."""
        schema = self.answer.model_json_schema()
        return {name: schema["properties"][name] for name in self.answer.model_fields}

    def read(self, text: str | bytes) -> dict[str, JsonValue]:
        """The answer in a JSON document, which may stand between white space.

        Types are taken as they are: ``"true"`` is not true, nor is ``1``.

        Raises:
            AnswerRejected: it is not JSON or not of this shape; says where, but does not
                repeat the text.
        """
        try:
            answer = self.answer.model_validate_json(text, strict=True)
        except ValidationError as error:
            reason = _first_reason(error)
        else:
            return answer.model_dump(mode="json")
        raise AnswerRejected(f"the answer is not a {self.answer.__name__}: {reason}")


def load_prompt(name: str) -> str:
    """The text of the prompt file of that name in this folder."""
    text = resources.files("actors.roles").joinpath(f"{name}.md").read_text(encoding="utf-8")
    return text.strip()


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"][:_REASON_CHARS]
    return f"{where[:_REASON_CHARS]}: {message}" if where else message
