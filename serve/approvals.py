"""Approvals: the steps that may not begin before a person lets them."""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.entry import Approval, Key
from bus.event import StoredEvent
from bus.payloads import ApprovalDenied, ApprovalGiven, ApprovalRequested
from bus.subjects import kind_filter, kind_of
from policies.caller import Caller
from serve.known_run import KnownRun, know_run, visible_runs
from serve.ports import Log
from serve.problems import NotFound

Status = Literal["pending", "given", "denied", "lapsed"]
"""Lapsed: the run ended before anybody answered."""
UNKNOWN_APPROVAL: Final = "There is no approval of that id."
_ANSWERS: Final = (ApprovalGiven.TYPE, ApprovalDenied.TYPE)


class ApprovalView(BaseModel):
    """Whether people let a step begin; the id is that of the event that asks them."""

    model_config = ConfigDict(frozen=True)
    id: str
    run: str
    step: str
    iteration: int
    status: Status = Field(description="Lapsed: the run ended before anybody answered.")
    requested_at: datetime
    answered_by: str | None = None
    answered_at: datetime | None = None
    reason: str = ""


def view_approvals(known: KnownRun) -> tuple[ApprovalView, ...]:
    """Every approval that a run asked for, in the order of the log."""
    ended = known.state.ended is not None
    return tuple(
        _view_approval(known.id, key, approval, run_ended=ended)
        for key, approval in known.state.approvals.items()
    )


async def list_approvals(
    log: Log, caller: Caller, status: Status | None, limit: int
) -> list[ApprovalView]:
    """The newest approvals of runs that the caller may see, of that status or of any.

    They come in the order of the log.

    Reads what was asked and answered of all runs, then the runs that are listed.
    """
    visible = frozenset(await visible_runs(log, caller))
    asked = {each: run for each, run in (await _asked(log)).items() if run in visible}
    if status in ("pending", "lapsed"):
        answered = await _answered(log)
        asked = {each: run for each, run in asked.items() if each not in answered}
    runs: dict[str, dict[str, ApprovalView]] = {}
    found: list[ApprovalView] = []
    for each, run in reversed(list(asked.items())):
        if run not in runs:
            runs[run] = await _approvals_of(log, run, caller)
        view = runs[run].get(each)
        if view is not None and status in (None, view.status):
            found.append(view)
        if len(found) == limit:
            break
    return found[::-1]


async def run_of_approval(log: Log, approval: str) -> str:
    """The run whose step waits for that approval.

    Raises:
        NotFound: the coordinator asked for no such approval.
    """
    run = (await _asked(log)).get(approval)
    if run is None:
        raise NotFound(UNKNOWN_APPROVAL)
    return run


async def _approvals_of(log: Log, run: str, caller: Caller) -> dict[str, ApprovalView]:
    """By id; none where the log has lost who asked for the run."""
    try:
        return {view.id: view for view in view_approvals(await know_run(log, run, caller))}
    except NotFound:
        return {}


async def _asked(log: Log) -> Mapping[str, str]:
    """The run of each approval that was asked for, by id."""
    async with aclosing(log.read(kind_filter(kind_of(ApprovalRequested.TYPE)))) as events:
        return {
            received.event.id: received.event.run
            async for received in events
            if isinstance(received, StoredEvent)
        }


async def _answered(log: Log) -> frozenset[str]:
    """The ids of the approvals that somebody answered."""
    answered: set[str] = set()
    for event_type in _ANSWERS:
        async with aclosing(log.read(kind_filter(kind_of(event_type)))) as events:
            async for received in events:
                payload = received.payload() if isinstance(received, StoredEvent) else None
                if isinstance(payload, ApprovalGiven | ApprovalDenied):
                    answered.add(payload.approval)
    return frozenset(answered)


def _view_approval(run: str, key: Key, approval: Approval, *, run_ended: bool) -> ApprovalView:
    answer = approval.answer
    lapsed = run_ended and approval.status == "pending"
    return ApprovalView(
        id=approval.id,
        run=run,
        step=key[0],
        iteration=key[1],
        status="lapsed" if lapsed else approval.status,
        requested_at=approval.at,
        answered_by=None if answer is None else answer.requested_by,
        answered_at=None if answer is None else answer.at,
        reason="" if answer is None else answer.reason,
    )
