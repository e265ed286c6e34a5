"""The gateway as an ASGI application: routes, and the layers that every request passes.

RequestContext (id, access log, errors) > Authenticate > BodyLimit > routes. Nothing
here opens a connection: the parts come ready-made.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serve.access import Authenticate
from serve.limits import BodyLimit
from serve.ports import GatewayParts
from serve.problems import Problem
from serve.request import RequestContext, answer_problem
from serve.routers import audit, auth, chat, health, runs

TITLE = "vllm-swarm gateway"
VERSION = "1"
"""Of the HTTP interface; the paths carry it too."""
_bearer = HTTPBearer(auto_error=False, description="An access token from /auth/login.")


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
            Middleware(RequestContext, echo_id=echo_request_id),
            Middleware(Authenticate, parts=parts),
            Middleware(
                BodyLimit,
                limit_bytes=parts.limits.body_bytes,
                timeout_s=parts.limits.body_timeout_s,
            ),
        ],
        responses={"default": {"model": Problem, "description": "A refusal (RFC 9457)."}},
    )
    app.state.parts = parts
    app.add_exception_handler(HTTPException, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_problem)
    app.include_router(auth.open_router)
    app.include_router(health.open_router)
    for router in (auth.router, runs.router, audit.router, chat.router, health.router):
        # Authenticate has done the work; this only says so in the OpenAPI document.
        app.include_router(router, dependencies=[Depends(_bearer)])
    return app


def create_late_app(
    open_parts: Callable[[], AbstractAsyncContextManager[GatewayParts]],
) -> Starlette:
    """The application, behind Ray Serve's proxy, over parts opened at its start, closed at its end.

    Both happen in the one task that the server runs the lifespan in.
    """

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None, None]:
        async with open_parts() as parts:
            outer.mount("/", create_app(parts, echo_request_id=False))
            yield

    return Starlette(lifespan=lifespan)
