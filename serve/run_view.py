"""A run as people see it: the coordinator's own fold over the log, told in plain fields."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.record import RunState, StepStatus, fact_of
from actors.run_state import fold
from bus.event import StoredEvent
from bus.payloads import RunCompleted, RunFailed, RunSubmitted
from bus.received import Received
from bus.subjects import SYSTEM_RUN, is_token, run_filter
from serve.ports import Log
from serve.problems import NotFound

UNKNOWN_RUN = "There is no run of that id."


class UsageView(BaseModel):
    """Tokens a model read and wrote."""

    model_config = ConfigDict(frozen=True)
    prompt_tokens: int
    completion_tokens: int


class StepView(BaseModel):
    """One step of one round, with its latest attempt."""

    model_config = ConfigDict(frozen=True)
    name: str
    iteration: int
    role: str
    status: Literal["assigned", "claimed", "completed", "failed"]
    attempt: int
    agent: str | None = None
    model: str | None = None
    duration_ms: int | None = None
    usage: UsageView | None = None


class FailureView(BaseModel):
    """Why a run ended without a result."""

    model_config = ConfigDict(frozen=True)
    code: str
    message: str
    step: str | None = None


class RunView(BaseModel):
    """Where a run stands."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: Literal["running", "completed", "failed"]
    objective: str
    workflow: str
    model: str
    requested_by: str
    submitted_at: datetime
    ended_at: datetime | None = None
    steps: tuple[StepView, ...] = ()
    usage: UsageView
    result: str | None = Field(None, description="Markdown, once the run is completed.")
    failure: FailureView | None = None
    stream_sequence: int = Field(description="The last event that this status knows of.")


def check_run_id(run: str) -> None:
    """Refuse what cannot be the id of a run.

    Raises:
        NotFound: it is malformed, or names what is not a run.
    """
    if not is_token(run) or run == SYSTEM_RUN:
        raise NotFound(UNKNOWN_RUN)


async def read_run(log: Log, run: str) -> list[Received]:
    """Everything that the log holds of a run, refused events among it.

    Raises:
        NotFound: nobody has submitted such a run.
    """
    async with aclosing(log.read(run_filter(run))) as events:
        seen = [received async for received in events]
    if _submission(seen) is None:
        raise NotFound(UNKNOWN_RUN)
    return seen


def view_run(run: str, seen: Sequence[Received]) -> RunView:
    """The state that the events lead to.

    Args:
        run: its id.
        seen: its events in the order of the log, its submission among them.

    Raises:
        NotFound: there is no submission among them.
    """
    submitted = _submission(seen)
    if submitted is None:
        raise NotFound(UNKNOWN_RUN)
    stored, submission = submitted
    accepted = [received for received in seen if isinstance(received, StoredEvent)]
    state = fold(RunState(), map(fact_of, accepted))
    usage = state.ended.usage if isinstance(state.ended, RunCompleted) else state.usage
    return RunView(
        id=run,
        status=state.status,
        objective=submission.objective,
        workflow=submission.workflow,
        model=submission.model,
        requested_by=submission.requested_by,
        submitted_at=stored.stored_at,
        ended_at=_ended_at(accepted),
        steps=tuple(map(_view_step, state.steps)),
        usage=UsageView(**usage.model_dump()),
        result=state.ended.document if isinstance(state.ended, RunCompleted) else None,
        failure=_view_failure(state.ended),
        stream_sequence=seen[-1].stream_sequence,
    )


def _submission(seen: Sequence[Received]) -> tuple[StoredEvent, RunSubmitted] | None:
    for received in seen:
        if isinstance(received, StoredEvent) and received.event.type == RunSubmitted.TYPE:
            payload = received.payload()
            if isinstance(payload, RunSubmitted):
                return received, payload
    return None


def _ended_at(accepted: Sequence[StoredEvent]) -> datetime | None:
    ends = (s.stored_at for s in accepted if s.event.type in (RunCompleted.TYPE, RunFailed.TYPE))
    return next(ends, None)


def _view_step(step: StepStatus) -> StepView:
    return StepView(
        name=step.step,
        iteration=step.iteration,
        role=step.role,
        status=step.status,
        attempt=step.attempt,
        agent=step.agent,
        model=step.model,
        duration_ms=step.duration_ms,
        usage=None if step.usage is None else UsageView(**step.usage.model_dump()),
    )


def _view_failure(ended: RunCompleted | RunFailed | None) -> FailureView | None:
    if not isinstance(ended, RunFailed):
        return None
    return FailureView(code=ended.code, message=ended.message, step=ended.step)
