"""What the coordinator may say, and the event that says it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from actors.record import RunState
from bus.budget import SpentBudget
from bus.event import Draft, derive_id
from bus.memory_payloads import ItemReference
from bus.payloads import (
    ApprovalRequested,
    Payload,
    Priority,
    ResultRefused,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepAssigned,
    Usage,
)
from bus.reference import MAX_OBJECT_BYTES

PRIORITY: Final[Priority] = "normal"
"""Of a run whose submission is not known."""
_FRAME_BYTES: Final = 1_024
"""Of an event's payload, for all but its texts: names, numbers and the words of the JSON."""
MOST_BYTES: Final = (MAX_OBJECT_BYTES - _FRAME_BYTES) * 3 // 4
"""Of the texts that a command says: sealed, they take a third more."""
_REASON_CHARS: Final = 500
_MESSAGE_CHARS: Final = 2_000
_CODE_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignStep:
    """Give a step, or one part of a fan-out, to its role; `cause` made it possible."""

    step: str
    iteration: int
    item: int = 0
    attempt: int
    role: str
    objective: str
    inputs: Mapping[str, dict[str, JsonValue]]
    deadline_s: float
    each: JsonValue = None
    instructions: str = ""
    answer_schema: Mapping[str, JsonValue] | None = None
    tokens_left: int | None = None
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestApproval:
    """Ask people whether a step may begin."""

    step: str
    iteration: int
    role: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseResult:
    """Say that the outcome in the event `refused` does not count."""

    refused: str
    step: str
    iteration: int
    item: int = 0
    attempt: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRun:
    """End the run with its document.

    `steps` counts the accepted answers, adopted ones among them; `usage` is of those that
    the run asked for itself.
    """

    document: str
    steps: int
    usage: Usage
    cause: str
    recalled: tuple[ItemReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRun:
    """End the run without a result."""

    code: str
    message: str
    step: str | None
    cause: str
    budget: SpentBudget | None = None
    words_of: str | None = None
    """Who is quoted, if anybody: then it is sealed for that person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    """End the run because a person asked for it."""

    requested_by: str
    reason: str
    cause: str
    words_of: str | None = None
    """Whose reason it is: it is sealed for that person."""


EndRun = CompleteRun | FailRun | CancelRun
Command = AssignStep | RequestApproval | RefuseResult | EndRun


def draft_of(command: Command, state: RunState) -> Draft:
    """The event that a command asks for, with an id that any coordinator would give it."""
    submission = state.submission
    suffix: tuple[str, ...] = ()
    words_of = command.words_of if isinstance(command, FailRun | CancelRun) else None
    if isinstance(command, AssignStep):
        suffix = command.role, submission.priority if submission else PRIORITY
    return Draft(
        run=state.run,
        payload=payload_of(command),
        id=derive_id(*_id_parts(command, state)),
        suffix=suffix,
        cause=command.refused if isinstance(command, RefuseResult) else command.cause,
        on_behalf_of=submission.on_behalf_of if submission else None,
        sealed_for=words_of or (submission.sealed_for if submission else None),
        traceparent=submission.traceparent if submission else None,
    )


def payload_of(command: Command) -> Payload:
    """What the event of a command says."""
    match command:
        case AssignStep():
            return assignment_of(command)
        case RequestApproval():
            return ApprovalRequested(
                step=command.step, iteration=command.iteration, role=command.role
            )
        case RefuseResult():
            return _refused(command)
        case CompleteRun():
            return RunCompleted(
                document=command.document,
                steps=command.steps,
                usage=command.usage,
                recalled=command.recalled,
            )
        case FailRun():
            return RunFailed(
                code=command.code[:_CODE_CHARS],
                message=command.message[:_MESSAGE_CHARS],
                step=command.step,
                budget=command.budget,
            )
        case CancelRun():
            return RunCancelled(requested_by=command.requested_by, reason=command.reason)


def assignment_of(command: AssignStep) -> StepAssigned:
    """The payload that gives the step to its role."""
    schema = command.answer_schema
    return StepAssigned(
        step=command.step,
        iteration=command.iteration,
        attempt=command.attempt,
        item=command.item,
        role=command.role,
        objective=command.objective,
        inputs=dict(command.inputs),
        deadline_s=command.deadline_s,
        each=command.each,
        instructions=command.instructions,
        answer_schema=None if schema is None else dict(schema),
        tokens_left=command.tokens_left,
    )


def _id_parts(command: Command, state: RunState) -> tuple[str, ...]:
    """What the id is derived from; a retried run asks and ends under ids of its own."""
    again = (str(state.retries),) if state.retries else ()
    match command:
        case AssignStep():
            place = command.step, str(command.iteration), str(command.attempt)
            part = (str(command.item),) if command.item else ()
            return "step.assigned", state.run, *place, *part
        case RequestApproval():
            return "approval.requested", state.run, command.step, str(command.iteration), *again
        case RefuseResult():
            return "result.refused", command.refused
        case CompleteRun() | FailRun() | CancelRun():
            return "run.ended", state.run, *again


def _refused(command: RefuseResult) -> ResultRefused:
    return ResultRefused(
        step=command.step,
        iteration=command.iteration,
        attempt=command.attempt,
        item=command.item,
        epoch=command.epoch,
        refused=command.refused,
        reason=command.reason[:_REASON_CHARS],
    )
