"""Who is calling, and what their role lets them do. What is not listed as open is closed."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, cast

import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from policies.errors import InvalidToken
from policies.roles import Deny, Permission, permit
from policies.tokens import Claims
from serve.ports import GatewayParts
from serve.problems import NotAllowed, NotAuthenticated

LOGIN: Final = "/auth/login"
LIVE: Final = "/health/live"
OPEN: Final = frozenset({("POST", LOGIN), ("GET", LIVE)})
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
        claims = self._claims(Headers(scope=scope).getlist("authorization"))
        scope["state"]["claims"] = claims
        with structlog.contextvars.bound_contextvars(user=claims.sub):
            await self._app(scope, receive, send)

    def _claims(self, authorization: list[str]) -> Claims:
        if len(authorization) != 1:
            raise NotAuthenticated(headers=_challenge())
        scheme, _, token = authorization[0].partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated(headers=_challenge())
        try:
            return self._parts.token_verifier.verify(token.strip(), now=self._parts.clock())
        except InvalidToken as error:
            raise NotAuthenticated(str(error), headers=_challenge(error.code)) from error


def parts_of(request: Request) -> GatewayParts:
    """The parts that the application was made with."""
    return cast("GatewayParts", request.app.state.parts)


def requires(permission: Permission) -> Callable[[Request], Awaitable[Claims]]:
    """A dependency: the caller's claims, if their role has the permission.

    The dependency raises NotAllowed where it has not.
    """

    async def check(request: Request) -> Claims:
        claims = cast("Claims", request.state.claims)
        verdict = permit(claims.role, permission)
        if isinstance(verdict, Deny):
            raise NotAllowed(verdict.reason)
        return claims

    return check


async def _parts(request: Request) -> GatewayParts:
    return parts_of(request)


async def _caller(request: Request) -> Claims:
    return cast("Claims", request.state.claims)


Parts = Annotated[GatewayParts, Depends(_parts)]
Caller = Annotated[Claims, Depends(_caller)]
Reader = Annotated[Claims, Depends(requires(Permission.RUN_READ))]
Submitter = Annotated[Claims, Depends(requires(Permission.RUN_SUBMIT))]
Canceller = Annotated[Claims, Depends(requires(Permission.RUN_CANCEL))]
Controller = Annotated[Claims, Depends(requires(Permission.RUN_CONTROL))]
Approver = Annotated[Claims, Depends(requires(Permission.RUN_APPROVE))]
AuditReader = Annotated[Claims, Depends(requires(Permission.AUDIT_READ))]
Chatter = Annotated[Claims, Depends(requires(Permission.CHAT_COMPLETE))]
ModelReader = Annotated[Claims, Depends(requires(Permission.MODEL_READ))]


def _challenge(code: str | None = None) -> dict[str, str]:
    """RFC 6750: what to send, and what was wrong with what was sent."""
    suffix = "" if code is None else ', error="invalid_token"'
    return {"WWW-Authenticate": f'Bearer realm="swarm"{suffix}'}
