"""What the audit log has of a run."""

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serve.access import AuditReader, Parts
from serve.audited_run import check_visible

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
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await check_visible(parts, run, caller)
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
