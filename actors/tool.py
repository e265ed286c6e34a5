"""A tool: what an agent may have done besides asking its model.

    class Words(BaseModel):
        text: str

    class Count(BaseModel):
        words: int

    @tool
    async def count_words(wanted: Words) -> Count:
        "Counts the words of a text."
        return Count(words=len(wanted.text.split()))

What a model asks for is checked against the first model before the function is called, and
the function gives the second one back.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, get_type_hints

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from actors.errors import InvalidTool, ToolFailed, ToolMisused
from bus.errors import SwarmError
from bus.payloads import StepAssigned
from bus.tool_payloads import ToolName

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

TIMEOUT_S: Final = 30.0
_REASON_CHARS: Final = 200


class Tool(Protocol):
    """Something that an agent may call while it works on a step.

    A call may be made again for the same step, if the agent dies before its answer is stored.
    """

    @property
    def name(self) -> str:
        """What the policy and the model call it: see `ToolName`."""
        ...

    @property
    def description(self) -> str:
        """What it does, for the model."""
        ...

    @property
    def schema(self) -> Mapping[str, JsonValue]:
        """The JSON schema of its arguments, an object."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds that a call may take."""
        ...

    async def call(self, arguments: Mapping[str, JsonValue], assigned: StepAssigned) -> JsonValue:
        """Do it.

        Raises:
            ToolMisused: these are no arguments for it.
            ToolError: it did not work.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTool:
    """A function with typed arguments and a typed answer, as a tool."""

    name: str
    description: str
    arguments: type[BaseModel]
    answer: type[BaseModel]
    function: Callable[..., Awaitable[BaseModel]] = field(repr=False)
    reads_step: bool = False
    """Whether the function takes the step as well."""
    timeout_s: float = TIMEOUT_S

    @property
    def schema(self) -> dict[str, JsonValue]:
        """The JSON schema of its arguments."""
        schema: dict[str, JsonValue] = self.arguments.model_json_schema()
        return schema

    async def call(self, arguments: Mapping[str, JsonValue], assigned: StepAssigned) -> JsonValue:
        """Check the arguments, and call the function.

        Raises:
            ToolMisused: they do not fit.
            ToolFailed: the function raised something, or gave something else back.
        """
        try:
            wanted = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ToolMisused(f"{self.name}: {where}: {first['msg']}"[:_REASON_CHARS]) from error
        try:
            answer = await self.function(wanted, *([assigned] if self.reads_step else []))
        except SwarmError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS]
            raise ToolFailed(f"{self.name} failed: {reason}") from error
        if not isinstance(answer, self.answer):
            raise ToolFailed(f"{self.name} did not give a {self.answer.__name__}")
        dumped: JsonValue = answer.model_dump(mode="json")
        return dumped


def tool(
    function: Callable[[A], Awaitable[R]] | Callable[[A, StepAssigned], Awaitable[R]],
) -> PythonTool:
    """Make a tool of an async function of one pydantic model that gives another.

    Its name is the tool's, its docstring tells the model what it is for. A second parameter of
    type `StepAssigned` is given the step that the agent works on.

    Raises:
        InvalidTool: the function is not of that form.
    """
    name: str = getattr(function, "__name__", "")
    if not inspect.iscoroutinefunction(function):
        raise InvalidTool(f"{name} is not an async function")
    hints: dict[str, Any] = get_type_hints(function)
    answer = hints.pop("return", None)
    kinds = list(hints.values())
    if not kinds or not _is_model(kinds[0]) or not _is_model(answer):
        raise InvalidTool(f"{name} does not take one pydantic model and give another")
    if kinds[1:] not in ([], [StepAssigned]):
        raise InvalidTool(f"{name} takes more than its arguments and the step")
    description = inspect.getdoc(function)
    if not description:
        raise InvalidTool(f"{name} has no docstring: a model could not tell what it is for")
    try:
        TypeAdapter(ToolName).validate_python(name)
    except ValidationError as error:
        raise InvalidTool(f"{name[:80]!r} cannot name a tool") from error
    return PythonTool(
        name=name,
        description=" ".join(description.split()),
        arguments=kinds[0],
        answer=answer,
        function=function,
        reads_step=len(kinds) > 1,
    )


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
