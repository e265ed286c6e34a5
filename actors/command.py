"""What the coordinator may say, and the event that says it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from actors.record import RunState
from bus.event import Draft, derive_id
from bus.payloads import Payload, ResultRefused, RunCompleted, RunFailed, StepAssigned, Usage

PRIORITY: Final = "normal"
_REASON_CHARS: Final = 500
_MESSAGE_CHARS: Final = 2_000
_CODE_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignStep:
    """Give a step to its role; `cause` made it possible."""

    step: str
    iteration: int
    attempt: int
    role: str
    objective: str
    inputs: Mapping[str, dict[str, JsonValue]]
    deadline_s: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseResult:
    """Say that the outcome in the event `refused` does not count."""

    refused: str
    step: str
    iteration: int
    attempt: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRun:
    """End the run with its document; `steps` and `usage` are of the accepted answers."""

    document: str
    steps: int
    usage: Usage
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRun:
    """End the run without a result."""

    code: str
    message: str
    step: str | None
    cause: str


Command = AssignStep | RefuseResult | CompleteRun | FailRun


def draft_of(command: Command, state: RunState) -> Draft:
    """The event that a command asks for, with an id that any coordinator would give it."""
    payload, parts, suffix = _event_of(command, state.run)
    submission = state.submission
    return Draft(
        run=state.run,
        payload=payload,
        id=derive_id(*parts),
        suffix=suffix,
        cause=command.refused if isinstance(command, RefuseResult) else command.cause,
        on_behalf_of=submission.on_behalf_of if submission else None,
        traceparent=submission.traceparent if submission else None,
    )


def _event_of(command: Command, run: str) -> tuple[Payload, tuple[str, ...], tuple[str, ...]]:
    """Payload, parts of the id, and suffix of the subject."""
    match command:
        case AssignStep():
            place = command.step, str(command.iteration), str(command.attempt)
            suffix = command.role, PRIORITY
            return assignment_of(command), ("step.assigned", run, *place), suffix
        case RefuseResult():
            return _refused(command), ("result.refused", command.refused), ()
        case CompleteRun():
            completed = RunCompleted(
                document=command.document, steps=command.steps, usage=command.usage
            )
            return completed, ("run.ended", run), ()
        case FailRun():
            failed = RunFailed(
                code=command.code[:_CODE_CHARS],
                message=command.message[:_MESSAGE_CHARS],
                step=command.step,
            )
            return failed, ("run.ended", run), ()


def assignment_of(command: AssignStep) -> StepAssigned:
    """The payload that gives the step to its role."""
    return StepAssigned(
        step=command.step,
        iteration=command.iteration,
        attempt=command.attempt,
        role=command.role,
        objective=command.objective,
        inputs=dict(command.inputs),
        deadline_s=command.deadline_s,
    )


def _refused(command: RefuseResult) -> ResultRefused:
    return ResultRefused(
        step=command.step,
        iteration=command.iteration,
        attempt=command.attempt,
        epoch=command.epoch,
        refused=command.refused,
        reason=command.reason[:_REASON_CHARS],
    )
