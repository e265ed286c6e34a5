"""The newest runs, a line each."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from policies.caller import Caller
from serve.known_run import KnownRun, know_run, visible_runs
from serve.ports import Log
from serve.problems import NotFound
from serve.run_view import RunStatus

OBJECTIVE_CHARS = 200


class RunLine(BaseModel):
    """A run in short."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: RunStatus
    objective: str = Field(description=f"Its first {OBJECTIVE_CHARS} characters.")
    workflow: str
    requested_by: str
    submitted_at: datetime


async def list_runs(log: Log, caller: Caller, limit: int) -> list[RunLine]:
    """The newest runs that are the caller's to see, in the order of the log; each is folded."""
    visible = await visible_runs(log, caller)
    lines = [await _line_of(log, run, caller) for run in visible[-limit:]]
    return [line for line in lines if line is not None]


async def _line_of(log: Log, run: str, caller: Caller) -> RunLine | None:
    """None where the log has lost the run since it was listed."""
    try:
        return _line(await know_run(log, run, caller))
    except NotFound:
        return None


def _line(known: KnownRun) -> RunLine:
    submission = known.submission
    return RunLine(
        id=known.id,
        status=known.state.status,
        objective=submission.objective[:OBJECTIVE_CHARS],
        workflow=submission.workflow,
        requested_by=submission.requested_by,
        submitted_at=known.submitted.stored_at,
    )
