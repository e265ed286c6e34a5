"""Approvals: what waits for a person, and the person's answer."""

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from bus.errors import PublishConflict
from policies.caller import Caller
from serve.access import Approver, Parts, Reader
from serve.approvals import (
    UNKNOWN_APPROVAL,
    ApprovalView,
    Status,
    list_approvals,
    run_of_approval,
    view_approvals,
)
from serve.control import Asker, answer, last_asked_or_answered
from serve.known_run import KnownRun, know_run
from serve.ports import GatewayParts
from serve.problems import Conflict, NotFound, Unavailable
from serve.reason import Because, BecauseOf
from serve.routers.control import ANSWERS, asker

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])

MAX_TRIES: Final = 8
"""Questions and answers of one run come one at a time; more than two in a row are rare."""


class Approvals(BaseModel):
    """Approvals in the order in which they were asked for."""

    model_config = ConfigDict(frozen=True)
    approvals: tuple[ApprovalView, ...]


@router.get("")
async def approvals(
    parts: Parts,
    caller: Reader,
    status: Annotated[Status | Literal["all"], Query()] = "pending",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Approvals:
    """The newest approvals of that status: those that wait for an answer if none is named."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        found = await list_approvals(parts.log, caller, None if status == "all" else status, limit)
    return Approvals(approvals=tuple(found))


@router.post("/{approval}/approve", status_code=202, responses=ANSWERS)
async def approve(
    approval: str, parts: Parts, caller: Approver, because: Because | None = None
) -> ApprovalView:
    """Let a step begin."""
    return await _answer(parts, approval, caller, asker(caller, because), give=True)


@router.post("/{approval}/deny", status_code=202, responses=ANSWERS)
async def deny(approval: str, parts: Parts, caller: Approver, because: BecauseOf) -> ApprovalView:
    """Do not let a step begin; its run fails, with this reason."""
    return await _answer(parts, approval, caller, asker(caller, because), give=False)


async def _answer(
    parts: GatewayParts, approval: str, caller: Caller, by: Asker, *, give: bool
) -> ApprovalView:
    """Store an answer if there is none yet; of two people who answer at once, one does."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        run = await run_of_approval(parts.log, approval)
        for _ in range(MAX_TRIES):
            known = await _known(parts, run, caller)
            view = _found(known, approval)
            draft = answer(known, view, by, give=give)
            if draft is None:
                return view
            try:
                await parts.log.append(draft, expected=last_asked_or_answered(known))
            except PublishConflict:
                continue  # somebody answered meanwhile: see what
    raise Unavailable("The answer could not be stored; try again.")


async def _known(parts: GatewayParts, run: str, caller: Caller) -> KnownRun:
    """The run of an approval; where it is not theirs, the approval is as unknown as the run."""
    try:
        return await know_run(parts.log, run, caller, to_touch=True)
    except NotFound:
        raise NotFound(UNKNOWN_APPROVAL) from None


def _found(known: KnownRun, approval: str) -> ApprovalView:
    for view in view_approvals(known):
        if view.id == approval:
            return view
    raise Conflict("The run was retried since, and does not wait for this approval any more.")
