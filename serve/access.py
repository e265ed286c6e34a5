"""Who is calling, and what their role lets them do. What is not listed as open is closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, cast

import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from policies.caller import Caller
from policies.errors import InvalidToken
from policies.rate_limits import counted_as
from policies.roles import Deny, Permission
from serve.client_address import client_address
from serve.ports import GatewayParts
from serve.problems import NotAllowed, NotAuthenticated

LOGIN: Final = "/auth/login"
LIVE: Final = "/health/live"
REFRESH: Final = "/auth/refresh"
REGISTER: Final = "/auth/register"
JWKS: Final = "/.well-known/jwks.json"
OPEN: Final = frozenset(
    {("POST", LOGIN), ("POST", REFRESH), ("POST", REGISTER), ("GET", JWKS), ("GET", LIVE)}
)
"""What works without a token; a new route is closed until it is named here."""


class Authenticate:
    """Asks for a valid access token before a request's path or body is looked at.

    Unknown paths are no exception: a stranger does not learn which ones exist.
    """

    def __init__(self, app: ASGIApp, *, parts: GatewayParts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request.

        Raises:
            NotAuthenticated: the path is not open and there is no valid token.
        """
        if scope["type"] != "http" or (scope["method"], scope["path"]) in OPEN:
            await self._app(scope, receive, send)
            return
        bearer = _bearer(Headers(scope=scope).getlist("authorization"))
        caller = await self._identified(bearer)
        scope["state"].update(caller=caller, bearer=bearer)
        with structlog.contextvars.bound_contextvars(user=caller.user):
            await self._app(scope, receive, send)

    async def _identified(self, bearer: str) -> Caller:
        try:
            async with asyncio.timeout(self._parts.limits.call_timeout_s):
                return await self._parts.people.callers.identify(bearer, now=self._parts.clock())
        except InvalidToken as error:
            raise NotAuthenticated(str(error), headers=_challenge(error.code)) from error


def still_welcome(request: Request) -> Callable[[], Awaitable[bool]]:
    """Asks, later on, whether the caller of this request would still be let in."""
    parts, caller = parts_of(request), cast("Caller", request.state.caller)
    bearer = str(request.state.bearer)
    return lambda: parts.people.callers.still(caller, bearer, now=parts.clock())


def parts_of(request: Request) -> GatewayParts:
    """The parts that the application was made with."""
    return cast("GatewayParts", request.app.state.parts)


def requires(permission: Permission) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, if their role, and their API key's scopes, have the permission.

    The dependency raises NotAllowed where they have not.
    """

    async def check(request: Request) -> Caller:
        caller = cast("Caller", request.state.caller)
        verdict = caller.may(permission)
        if isinstance(verdict, Deny):
            raise NotAllowed(verdict.reason)
        return caller

    return check


async def _parts(request: Request) -> GatewayParts:
    return parts_of(request)


async def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


def address_of(request: Request, parts: GatewayParts) -> str:
    """What the client's address counts as where attempts are counted by address."""
    peer = None if request.client is None else request.client.host
    forwarded = request.headers.getlist("x-forwarded-for")
    return counted_as(client_address(peer, forwarded, parts.people.rules.proxies))


Parts = Annotated[GatewayParts, Depends(_parts)]
Identified = Annotated[Caller, Depends(_caller)]
Reader = Annotated[Caller, Depends(requires(Permission.RUN_READ))]
Submitter = Annotated[Caller, Depends(requires(Permission.RUN_SUBMIT))]
Canceller = Annotated[Caller, Depends(requires(Permission.RUN_CANCEL))]
Controller = Annotated[Caller, Depends(requires(Permission.RUN_CONTROL))]
Approver = Annotated[Caller, Depends(requires(Permission.RUN_APPROVE))]
AuditReader = Annotated[Caller, Depends(requires(Permission.AUDIT_READ))]
Chatter = Annotated[Caller, Depends(requires(Permission.CHAT_COMPLETE))]
Embeds = Annotated[Caller, Depends(requires(Permission.EMBEDDING_CREATE))]
UsageReader = Annotated[Caller, Depends(requires(Permission.USAGE_READ))]
ModelReader = Annotated[Caller, Depends(requires(Permission.MODEL_READ))]
AccountHolder = Annotated[Caller, Depends(requires(Permission.ACCOUNT_MANAGE))]
KeyHolder = Annotated[Caller, Depends(requires(Permission.API_KEY_MANAGE))]
UserManager = Annotated[Caller, Depends(requires(Permission.USER_MANAGE))]
MemoryReader = Annotated[Caller, Depends(requires(Permission.MEMORY_READ))]
MemoryWriter = Annotated[Caller, Depends(requires(Permission.MEMORY_WRITE))]
MemoryManager = Annotated[Caller, Depends(requires(Permission.MEMORY_MANAGE))]


def _bearer(authorization: list[str]) -> str:
    if len(authorization) != 1:
        raise NotAuthenticated(headers=_challenge())
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated(headers=_challenge())
    return token.strip()


def _challenge(code: str | None = None) -> dict[str, str]:
    """RFC 6750: what to send, and what was wrong with what was sent."""
    suffix = "" if code is None else ', error="invalid_token"'
    return {"WWW-Authenticate": f'Bearer realm="swarm"{suffix}'}
