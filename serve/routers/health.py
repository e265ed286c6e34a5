"""Whether the gateway lives, and whether what it needs does."""

import asyncio
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, JsonValue

from bus.errors import SwarmError
from serve.access import LIVE, Parts
from serve.openapi import complete
from serve.ports import Probe
from serve.problems import RETRY_AFTER_S, FieldReason, Unavailable

log = structlog.get_logger()
DOWN: Final = "down"
open_router = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the gateway, and of its parts where they were asked."""

    model_config = ConfigDict(frozen=True)
    status: str
    parts: dict[str, str] = {}
    degraded: dict[str, str] = {}
    """Parts that another stands in for, and how."""


@open_router.get(LIVE)
async def live() -> Health:
    """Answer: that is all it proves."""
    return Health(status="live")


@router.get("/health/ready")
async def ready(parts: Parts) -> Health:
    """Ask every part whether it answers; 503 names those that do not.

    The memory is degraded, not down, while its vector index does not follow.
    """
    names = sorted(parts.probes)
    timeout_s = parts.limits.probe_timeout_s
    states = await asyncio.gather(*(_state(name, parts.probes[name], timeout_s) for name in names))
    down = [name for name, state in zip(names, states, strict=True) if state == DOWN]
    if down:
        raise Unavailable(
            f"Not answering: {', '.join(down)}.",
            fields=tuple(FieldReason(field=name, reason="does not answer") for name in down),
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    degraded = {name: said for name, how in parts.degraded.items() if (said := how())}
    return Health(
        status="degraded" if degraded else "ready",
        parts=dict(zip(names, states, strict=True)),
        degraded=degraded,
    )


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, JsonValue]:
    """The OpenAPI document."""
    app: FastAPI = request.app
    if app.openapi_schema is None:
        app.openapi_schema = complete(app.openapi())
    return app.openapi_schema


async def _state(name: str, probe: Probe, timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            said = await probe()
    except (SwarmError, OSError, TimeoutError) as error:
        log.warning("probe.failed", part=name, error=type(error).__name__, reason=str(error)[:200])
        return DOWN
    return said or "up"
