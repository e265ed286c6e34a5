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
UP: Final = "up"
DOWN: Final = "down"
open_router = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the gateway, and of its parts where they were asked."""

    model_config = ConfigDict(frozen=True)
    status: str
    parts: dict[str, str] = {}
    degraded: dict[str, str] = {}
    """How those parts are that answer in part only, or by another that stands in for them."""


@open_router.get(LIVE)
async def live() -> Health:
    """Answer: that is all it proves."""
    return Health(status="live")


@router.get("/health/ready")
async def ready(parts: Parts) -> Health:
    """Ask every part whether it answers; 503 names those that do not.

    A part is degraded, not down, where another stands in for it, or where it does without one of
    its own: the memory without its vector index.
    """
    names = sorted(parts.probes)
    timeout_s = parts.limits.probe_timeout_s
    states = await asyncio.gather(*(_state(name, parts.probes[name], timeout_s) for name in names))
    said = dict(zip(names, states, strict=True))
    if down := [name for name in names if said[name] == DOWN]:
        raise Unavailable(
            f"Not answering: {', '.join(down)}.",
            fields=tuple(FieldReason(field=name, reason="does not answer") for name in down),
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    degraded = {name: how for name, how in said.items() if how != UP}
    return Health(
        status="degraded" if degraded else "ready",
        parts={name: "degraded" if name in degraded else UP for name in names},
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
    """Whether it is up or down, or how it is degraded."""
    try:
        async with asyncio.timeout(timeout_s):
            said = await probe()
    except (SwarmError, OSError, TimeoutError) as error:
        log.warning("probe.failed", part=name, error=type(error).__name__, reason=str(error)[:200])
        return DOWN
    return said or UP
