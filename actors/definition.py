"""A workflow as the JSON that a submission carries, so that the log tells what was run.

The wire contract is that of payloads: fields are only added, with a default, and a field
never changes its meaning.
"""

from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import to_json

from actors.errors import BadDefinition, InvalidWorkflow, UnknownRole
from actors.step import BACKOFF_S, DEADLINE_S, MAX_ATTEMPTS
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec

_CACHED: Final = 128
_REASON_CHARS: Final = 200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StepDefinition(_Part):
    """See `StepSpec`."""

    kind: Literal["step"] = "step"
    name: str
    role: str
    inputs: list[str] = []
    max_attempts: int = MAX_ATTEMPTS
    deadline_s: float = DEADLINE_S
    backoff_s: float = BACKOFF_S
    approval: bool = False
    for_each: str = ""
    answer_schema: dict[str, JsonValue] | None = None


class LoopDefinition(_Part):
    """See `LoopSpec`."""

    kind: Literal["loop"] = "loop"
    name: str
    steps: list[StepDefinition]
    verdict_step: str
    limit: int


class WorkflowDefinition(_Part):
    """See `WorkflowSpec`."""

    version: Literal[1] = 1
    name: str
    nodes: list[Annotated[StepDefinition | LoopDefinition, Field(discriminator="kind")]]


def definition_of(workflow: WorkflowSpec) -> dict[str, JsonValue]:
    """The workflow as JSON, from which `workflow_from` makes an equal one."""
    nodes = [
        _loop_definition(node) if isinstance(node, LoopSpec) else _step_definition(node)
        for node in workflow.nodes
    ]
    definition = WorkflowDefinition.model_construct(name=workflow.name, nodes=nodes)
    return definition.model_dump(mode="json")


def workflow_from(definition: dict[str, JsonValue]) -> WorkflowSpec:
    """The workflow that the JSON tells of.

    Raises:
        BadDefinition: it is no workflow, or none that can be run; the message says why.
    """
    return _workflow_from(to_json(definition))


@lru_cache(maxsize=_CACHED)
def _workflow_from(definition: bytes) -> WorkflowSpec:
    try:
        told = WorkflowDefinition.model_validate_json(definition)
        return WorkflowSpec(name=told.name, nodes=tuple(map(_node, told.nodes)))
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}"[:_REASON_CHARS]
        raise BadDefinition(f"the definition is no workflow: {reason}") from error
    except (InvalidWorkflow, UnknownRole) as error:
        raise BadDefinition(str(error)) from error


def _node(told: StepDefinition | LoopDefinition) -> StepSpec | LoopSpec:
    if isinstance(told, StepDefinition):
        return _step(told)
    return LoopSpec(
        name=told.name,
        steps=tuple(map(_step, told.steps)),
        verdict_step=told.verdict_step,
        limit=told.limit,
    )


def _step(told: StepDefinition) -> StepSpec:
    return StepSpec(
        name=told.name,
        role=told.role,
        inputs=tuple(told.inputs),
        max_attempts=told.max_attempts,
        deadline_s=told.deadline_s,
        backoff_s=told.backoff_s,
        approval=told.approval,
        for_each=told.for_each,
        answer_schema=told.answer_schema,
    )


def _loop_definition(loop: LoopSpec) -> LoopDefinition:
    return LoopDefinition(
        name=loop.name,
        steps=[_step_definition(step) for step in loop.steps],
        verdict_step=loop.verdict_step,
        limit=loop.limit,
    )


def _step_definition(step: StepSpec) -> StepDefinition:
    schema = step.answer_schema
    return StepDefinition(
        name=step.name,
        role=step.role,
        inputs=list(step.inputs),
        max_attempts=step.max_attempts,
        deadline_s=step.deadline_s,
        backoff_s=step.backoff_s,
        approval=step.approval,
        for_each=step.for_each,
        answer_schema=None if schema is None else dict(schema),
    )
