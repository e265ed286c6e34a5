"""The gateway as an ASGI application: routes, and the layers that every request passes.

Origins (CORS) > RequestContext (id, access log, errors) > Authenticate > BodyLimit > routes.
Nothing here opens a connection: the parts come ready-made.
"""

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Final

import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from actors.errors import EnrolmentRefused, KeyRetired
from bus.errors import SwarmError
from serve.access import Authenticate
from serve.limits import BodyLimit
from serve.ports import GatewayParts, Web
from serve.problems import Problem
from serve.request import RequestContext, answer_problem
from serve.routers import (
    api_keys,
    approvals,
    audit,
    auth,
    chat,
    control,
    dead_letters,
    embeddings,
    evidence,
    forks,
    health,
    jwks,
    memory,
    models,
    runs,
    sessions,
    usage,
    users,
)
from serve.routers import (
    log as raw_log,
)

log = structlog.get_logger()

PATIENCE_S: Final = 60.0
"""How long a starting gateway waits for what it works with; then it starts anew."""
RETRY_S: Final = 0.2
TITLE = "vllm-swarm gateway"
VERSION = "1"
"""Of the HTTP interface; the paths carry it too."""
_bearer = HTTPBearer(
    auto_error=False, description="An access token from /auth/login, or an API key."
)


def create_app(parts: GatewayParts, *, echo_request_id: bool = True) -> FastAPI:
    """The application over the given parts; the same parts may serve several.

    Args:
        parts: what it works with.
        echo_request_id: answer with an X-Request-ID header; Ray Serve's proxy adds one itself.
    """
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            *_origins(parts.web),
            Middleware(RequestContext, echo_id=echo_request_id, tls=parts.web.tls),
            Middleware(Authenticate, parts=parts),
            Middleware(
                BodyLimit,
                limit_bytes=parts.limits.body_bytes,
                timeout_s=parts.limits.body_timeout_s,
            ),
        ],
        routes=list(_routes()),
    )
    app.state.parts = parts
    app.add_exception_handler(HTTPException, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_problem)
    return app


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """Every route; they are the same for all parts, and take longer to make than to serve."""
    router = APIRouter(
        responses={"default": {"model": Problem, "description": "A refusal (RFC 9457)."}},
        generate_unique_id_function=lambda route: route.name,
    )
    for open_module in (auth, users, jwks, health):
        router.include_router(open_module.open_router)
    for module in (
        auth,
        sessions,
        api_keys,
        users,
        runs,
        control,
        approvals,
        dead_letters,
        forks,
        raw_log,
        audit,
        evidence,
        models,
        chat,
        embeddings,
        usage,
        memory,
        health,
    ):
        # Authenticate has done the work; this only says so in the OpenAPI document.
        router.include_router(module.router, dependencies=[Depends(_bearer)])
    return tuple(router.routes)


def _origins(web: Web) -> list[Middleware]:
    """Pages of other origins are answered only where they are named; cookies are never used."""
    if not web.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=web.origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                *("Authorization", "Content-Type"),
                *("Idempotency-Key", "If-Match", "Last-Event-ID"),
            ],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-ID"],
        )
    ]


def create_late_app(
    open_parts: Callable[[], AbstractAsyncContextManager[GatewayParts]],
    *,
    patience_s: float = PATIENCE_S,
    die: Callable[[int], None] = os._exit,
) -> Starlette:
    """The application, behind Ray Serve's proxy, over parts opened at its start, closed at its end.

    Both happen in the one task that the server runs the lifespan in. A part that does not answer
    just now is waited for: a new replica would take seconds, and find it no different. Where
    the gateway's key counts no more, the process ends: Serve starts another, with a new key.
    """

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None, None]:
        try:
            async with AsyncExitStack() as stack:
                parts = await _opened(stack, open_parts, patience_s)
                outer.mount("/", create_app(parts, echo_request_id=False))
                _set_apart_what_stays()
                yield
        except (EnrolmentRefused, KeyRetired) as error:
            log.error("gateway.ends", code=error.code, reason=str(error))
            die(1)

    return Starlette(lifespan=lifespan)


def _set_apart_what_stays() -> None:
    """Leave all that is there now out of garbage collection.

    What was imported stays until the process ends. Looking through it took 100 ms at a time, in
    which nobody was answered, at each full collection: every thousand requests or so.
    """
    gc.collect()
    gc.freeze()


async def _opened(
    stack: AsyncExitStack,
    open_parts: Callable[[], AbstractAsyncContextManager[GatewayParts]],
    patience_s: float,
) -> GatewayParts:
    until = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await stack.enter_async_context(open_parts())
        except SwarmError as error:
            if not error.retryable or asyncio.get_running_loop().time() > until:
                raise
            log.warning("gateway.waits", code=error.code, reason=str(error))
            await asyncio.sleep(RETRY_S)
