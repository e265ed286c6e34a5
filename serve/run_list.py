"""The newest runs, a line each."""

from contextlib import aclosing
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from bus.event import StoredEvent
from bus.payloads import RunSubmitted
from bus.subjects import kind_filter, kind_of
from serve.known_run import KnownRun, know_run
from serve.ports import Log
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


async def list_runs(log: Log, limit: int) -> list[RunLine]:
    """The newest runs in the order of the log; each is read and folded."""
    async with aclosing(log.read(kind_filter(kind_of(RunSubmitted.TYPE)))) as events:
        submitted = dict.fromkeys(
            [stored.event.run async for stored in events if isinstance(stored, StoredEvent)]
        )
    return [_line(await know_run(log, run)) for run in list(submitted)[-limit:]]


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
