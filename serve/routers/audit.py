"""What the audit log has of a run."""

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from policies.caller import Owner, may_see
from serve.access import AuditReader, Parts
from serve.known_run import UNKNOWN_RUN, check_run_id, read_run
from serve.problems import NotFound

router = APIRouter(tags=["audit"])


class AuditView(BaseModel):
    """One run in the audit log, and the signed checkpoint of the whole log."""

    model_config = ConfigDict(frozen=True)
    run: str
    events: int
    signatures_verified: int = Field(description="Events whose signature and sender held.")
    refused: int
    tree_size: int = Field(description="Leaves of the whole log.")
    root: str = Field(description="Merkle root at that size, hex.")
    checkpoint: str | None = Field(
        description="Signed note (C2SP tlog-checkpoint), with the cosignatures that it has yet."
    )
    cosigned: str | None = Field(
        description="The newest checkpoint that a witness has cosigned (C2SP tlog-cosignature)."
    )


@router.get("/v1/runs/{run}/audit")
async def audit_summary(run: str, parts: Parts, caller: AuditReader) -> AuditView:
    """Count the recorded events of a run. The audit log follows the event log by moments."""
    check_run_id(run)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        owner = await parts.people.owners.of(run)
        if owner is None:  # a run that the audit log has not reached, or none at all
            await read_run(parts.log, run, caller)
        elif not may_see(caller, Owner(user=owner.user, tenant=owner.tenant)):
            raise NotFound(UNKNOWN_RUN)
        summary = await parts.audit.summary(run)
    return AuditView(
        run=run,
        events=summary.events,
        signatures_verified=summary.accepted,
        refused=summary.refused,
        tree_size=summary.tree_size,
        root=summary.root,
        checkpoint=summary.checkpoint,
        cosigned=summary.cosigned,
    )
