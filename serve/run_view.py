"""A run as people see it: its state, told in plain fields."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.entry import Ended
from actors.record import RunState, StepStatus
from actors.waiting import waits_for
from bus.budget import SpentBudget
from bus.payloads import (
    Priority,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
)
from serve.approvals import ApprovalView, view_approvals
from serve.known_run import KnownRun

RunStatus = Literal["running", "paused", "completed", "failed", "cancelled"]


class UsageView(BaseModel):
    """Tokens a model read and wrote."""

    model_config = ConfigDict(frozen=True)
    prompt_tokens: int
    completion_tokens: int


class StepView(BaseModel):
    """One step of one round, or one part of it, with its latest attempt."""

    model_config = ConfigDict(frozen=True)
    name: str
    iteration: int
    item: int = Field(0, description="The part of a fan-out, from 1; 0 for a step done once.")
    role: str
    status: Literal["assigned", "claimed", "completed", "failed"]
    attempt: int
    agent: str | None = None
    model: str | None = None
    duration_ms: int | None = None
    usage: UsageView | None = None
    adopted: bool = Field(False, description="Taken over from the run that this is a fork of.")


class FailureView(BaseModel):
    """Why a run ended without a result."""

    model_config = ConfigDict(frozen=True)
    code: str
    message: str
    step: str | None = None
    budget: SpentBudget | None = Field(None, description="Which budget was used up, if one was.")


class CancellationView(BaseModel):
    """Who wants the run to end, or ended it, and why."""

    model_config = ConfigDict(frozen=True)
    requested_by: str
    reason: str


class WaitingView(BaseModel):
    """Why nothing moves just now."""

    model_config = ConfigDict(frozen=True)
    code: str
    text: str
    step: str | None = None
    since: datetime | None = None


class ForkView(BaseModel):
    """Where this run branched off from another."""

    model_config = ConfigDict(frozen=True)
    run: str
    at: str = Field(description="The other run's event up to which the two are the same.")


class RunView(BaseModel):
    """Where a run stands."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: RunStatus
    objective: str
    workflow: str
    model: str
    requested_by: str
    submitted_at: datetime
    ended_at: datetime | None = None
    priority: Priority = "normal"
    deadline_at: datetime | None = Field(None, description="The run fails if it goes on longer.")
    retries: int = Field(0, description="How often it was taken up again after a failure.")
    parent: ForkView | None = None
    waits_for: WaitingView | None = Field(None, description="None once the run has ended.")
    approvals: tuple[ApprovalView, ...] = ()
    cancellation: CancellationView | None = None
    steps: tuple[StepView, ...] = ()
    usage: UsageView
    result: str | None = Field(None, description="Markdown, once the run is completed.")
    failure: FailureView | None = None
    stream_sequence: int = Field(description="The last event that this status knows of.")


def view_run(known: KnownRun, now: datetime) -> RunView:
    """The run in plain fields.

    Args:
        known: what the log tells.
        now: in UTC; what the run waits for depends on it.
    """
    state, submission = known.state, known.submission
    usage = state.ended.usage if isinstance(state.ended, RunCompleted) else state.usage
    return RunView(
        id=known.id,
        status=state.status,
        objective=submission.objective,
        workflow=submission.workflow,
        model=submission.model,
        requested_by=submission.requested_by,
        submitted_at=known.submitted.stored_at,
        ended_at=_ended_at(known),
        priority=submission.priority,
        deadline_at=state.deadline_at,
        retries=state.retries,
        parent=_view_fork(submission),
        waits_for=_view_waiting(state, now),
        approvals=view_approvals(known),
        cancellation=_view_cancellation(state),
        steps=tuple(map(_view_step, state.steps)),
        usage=UsageView(**usage.model_dump()),
        result=state.ended.document if isinstance(state.ended, RunCompleted) else None,
        failure=_view_failure(state.ended),
        stream_sequence=known.stream_sequence,
    )


def _ended_at(known: KnownRun) -> datetime | None:
    ended = known.state.ended
    if ended is None:
        return None
    ends = [stored.stored_at for stored in known.events if stored.event.type == ended.TYPE]
    return ends[-1]


def _view_step(step: StepStatus) -> StepView:
    return StepView(
        name=step.step,
        iteration=step.iteration,
        item=step.item,
        role=step.role,
        status=step.status,
        attempt=step.attempt,
        agent=step.agent,
        model=step.model,
        duration_ms=step.duration_ms,
        usage=None if step.usage is None else UsageView(**step.usage.model_dump()),
        adopted=step.adopted,
    )


def _view_failure(ended: Ended | None) -> FailureView | None:
    if not isinstance(ended, RunFailed):
        return None
    return FailureView(code=ended.code, message=ended.message, step=ended.step, budget=ended.budget)


def _view_cancellation(state: RunState) -> CancellationView | None:
    asked = state.ended if isinstance(state.ended, RunCancelled) else state.cancel
    if asked is None:
        return None
    return CancellationView(requested_by=asked.requested_by, reason=asked.reason)


def _view_fork(submission: RunSubmitted) -> ForkView | None:
    fork = submission.fork
    return None if fork is None else ForkView(run=fork.parent, at=fork.at)


def _view_waiting(state: RunState, now: datetime) -> WaitingView | None:
    if state.ended is not None:
        return None
    waiting = waits_for(state, now)
    return WaitingView(code=waiting.code, text=waiting.text, step=waiting.step, since=waiting.since)
