"""What an outsider checks the audit log with: checkpoints, proofs, and the evidence of a run."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.access import AuditReader, Parts
from serve.audited_run import check_visible
from serve.evidence import FORMAT, bundle_of
from serve.ports import GatewayParts
from serve.problems import Conflict, FieldReason, InvalidFields, NotFound, Problem
from storage.audit_reader import StoredCheckpoint
from storage.evidence import Growth, TailTooLong

router = APIRouter(tags=["audit"])

_NO_CHECKPOINT: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "The log has not come so far, or signed none."}
}
_NOT_SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Problem, "description": "The tree is too small for the run, or too large."}
}
MOST: Final = 2**53
"""As far as every reader of JSON counts."""
Size = Annotated[
    int | None, Query(ge=1, le=MOST, description="Of the tree; the latest if left out.")
]
Cosigned = Annotated[
    bool, Query(description="Only one that a witness has cosigned (C2SP tlog-cosignature).")
]


class InclusionProof(BaseModel):
    """Proof (RFC 6962) that a leaf is in the tree of a size."""

    model_config = ConfigDict(frozen=True)
    leaf: int = Field(description="Counted from 0.")
    size: int
    proof: tuple[str, ...] = Field(description="Hashes in hex, from the leaf upwards.")


class ConsistencyProof(BaseModel):
    """Proof (RFC 6962) that the tree of the size `new` begins with that of the size `old`."""

    model_config = ConfigDict(frozen=True)
    old: int
    new: int
    proof: tuple[str, ...] = Field(description="Hashes in hex.")


@router.get(
    "/v1/audit/checkpoint",
    response_class=Response,
    responses={
        200: {
            "description": "A signed note.",
            "content": {
                "text/plain; charset=utf-8": {
                    "schema": {"type": "string"},
                    "example": (
                        "vllm-swarm/0123456789abcdef\n10\n"
                        "FQl08ZNQl4RWXMw4/UA+vN4vd1kovTzvYCmH2sKXl/I=\n\n"
                        "\u2014 vllm-swarm/0123456789abcdef lgzvG1NSGAYy...\n"
                    ),
                }
            },
        },
        **_NO_CHECKPOINT,
    },
)
async def checkpoint(
    parts: Parts, _: AuditReader, size: Size = None, *, cosigned: Cosigned = False
) -> Response:
    """Give a signed checkpoint (C2SP tlog-checkpoint), the latest one if no size is named.

    Cosignatures that it has so far stand under the log's own signature.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        found = await _signed(parts, size, cosigned=cosigned)
    return Response(found.handed_out, media_type="text/plain; charset=utf-8")


@router.get("/v1/audit/inclusion", responses=_NO_CHECKPOINT)
async def inclusion(
    parts: Parts,
    _: AuditReader,
    leaf: Annotated[int, Query(ge=0, le=MOST, description="Counted from 0.")],
    size: Size = None,
) -> InclusionProof:
    """Prove that a leaf is in the log."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        reached = await _reached(parts, size)
        if leaf >= reached:
            _refuse("leaf", f"must be less than the tree's size, {reached}")
        proof = await parts.audit.inclusion(leaf, reached)
    return InclusionProof(leaf=leaf, size=reached, proof=_hex(proof))


@router.get("/v1/audit/consistency", responses=_NO_CHECKPOINT)
async def consistency(
    parts: Parts,
    _: AuditReader,
    old: Annotated[int, Query(ge=1, le=MOST)],
    new: Size = None,
) -> ConsistencyProof:
    """Prove that the log has only grown."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        reached = await _reached(parts, new)
        if old > reached:
            _refuse("old", f"must not be more than the other tree's size, {reached}")
        proof = await parts.audit.consistency(old, reached)
    return ConsistencyProof(old=old, new=reached, proof=_hex(proof))


@router.get(
    "/v1/runs/{run}/evidence",
    response_class=Response,
    responses={
        200: {
            "description": "The bundle, as docs/evidence.md describes it.",
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {"format": FORMAT, "run": "r3a8ccd54b50257eb7378"},
                }
            },
        },
        **_NOT_SHOWN,
    },
)
async def evidence(
    run: str,
    parts: Parts,
    caller: AuditReader,
    size: Size = None,
    since: Annotated[
        int | None,
        Query(ge=1, le=MOST, description="Size of an earlier checkpoint to prove growth from."),
    ] = None,
) -> Response:
    """Bundle everything that shows a run to somebody who trusts the operator's key alone.

    `swarm verify` reads it; docs/evidence.md describes it.
    """
    async with asyncio.timeout(parts.limits.evidence_timeout_s):
        await check_visible(parts, run, caller)
        signed = await _signed(parts, size)
        growth = None if since is None else await _growth(parts, since, signed)
        most = parts.limits.evidence_tail_leaves
        found = await parts.audit.evidence(run, signed, most_tail=most)
        if found is None:
            raise Conflict(f"The tree of {signed.size} leaves has no event of the run; wait.")
    if isinstance(found, TailTooLong):
        raise Conflict(
            f"{found.leaves} leaves follow the run's last one, {found.last_leaf}; name the size of"
            f" a checkpoint at most {most} leaves behind it."
        )
    document = await asyncio.to_thread(bundle_of, replace(found, growth=growth), parts.anchors)
    return Response(document, media_type="application/json")


async def _signed(
    parts: GatewayParts, size: int | None, *, cosigned: bool = False
) -> StoredCheckpoint:
    found = await parts.audit.checkpoint(size, cosigned=cosigned)
    if found is None and cosigned:
        raise NotFound("No witness has cosigned such a checkpoint.")
    if found is None:
        raise NotFound("There is no such checkpoint: they are signed at the end of each batch.")
    return found


async def _growth(parts: GatewayParts, since: int, signed: StoredCheckpoint) -> Growth:
    if since > signed.size:
        _refuse("since", f"must not be more than the other tree's size, {signed.size}")
    old = await _signed(parts, since)
    return Growth(checkpoint=old, proof=await parts.audit.consistency(old.size, signed.size))


async def _reached(parts: GatewayParts, size: int | None) -> int:
    """The size that is meant, if the log has come so far."""
    latest = await _signed(parts, None)
    if size is not None and size > latest.size:
        raise NotFound(f"The log has {latest.size} leaves so far.")
    return latest.size if size is None else size


def _refuse(field: str, reason: str) -> None:
    raise InvalidFields(f"{field}: {reason}", fields=(FieldReason(field=field, reason=reason),))


def _hex(proof: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(each.hex() for each in proof)
