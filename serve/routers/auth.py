"""Logging in, staying logged in, logging out, and asking who one is."""

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from policies.rate_limits import VALIDATION
from policies.roles import Role
from serve import login
from serve.access import LOGIN, REFRESH, AccountHolder, Identified, Parts, address_of
from serve.ports import GatewayParts
from serve.problems import Conflict

open_router = APIRouter(tags=["auth"])
router = APIRouter(tags=["auth"])

LIMITED: dict[int | str, dict[str, object]] = {401: {}, 429: {}}
"""How else a login and what is like it may be answered."""
UserAgent = Annotated[str, Header(max_length=8_192, include_in_schema=False)]


class LoginRequest(BaseModel):
    """A user name and a password."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=1_024, repr=False)


class RefreshRequest(BaseModel):
    """The refresh token that the last login or refresh gave."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    refresh_token: str = Field(min_length=1, max_length=128, repr=False)


class LoginAnswer(BaseModel):
    """An access token for the next hour, and a refresh token to get another one with.

    A refresh token works once; the answer holds the next. One that comes a second time was
    stolen from somebody, so its session ends, whoever brought it.
    """

    model_config = ConfigDict(frozen=True)
    access_token: str = Field(description="A JWT (EdDSA); see /.well-known/jwks.json.", repr=False)
    token_type: str = "bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = Field(description="Seconds.")
    refresh_token: str = Field(description="For /auth/refresh, once.", repr=False)
    refresh_expires_at: datetime = Field(description="When the session ends if it is not used.")
    session_id: str


class Identity(BaseModel):
    """Whom the token speaks for."""

    model_config = ConfigDict(frozen=True)
    user_id: str
    username: str
    role: Role
    expires_at: datetime
    tenant: str
    session_id: str | None = Field(None, description="None for an API key.")
    scopes: tuple[str, ...] | None = Field(None, description="Of an API key.")


@open_router.post(LOGIN, responses=LIMITED)
async def log_in(
    credentials: LoginRequest, parts: Parts, request: Request, user_agent: UserAgent = ""
) -> LoginAnswer:
    """Exchange a user name and password for the tokens of a new session.

    An unknown user, a disabled one and a wrong password get the same answer after the
    same work. Failed attempts are counted per user name and per address, and over the
    limit of an address the wait grows each time: 429.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        tokens = await login.log_in(
            parts,
            username=credentials.username,
            password=credentials.password,
            address=address_of(request, parts),
            client=shown(user_agent),
        )
    return _answer(parts, tokens)


@open_router.post(REFRESH, responses=LIMITED)
async def refresh(wanted: RefreshRequest, parts: Parts, request: Request) -> LoginAnswer:
    """Exchange a refresh token for new tokens of the same session.

    Send one refresh at a time: two with the same token end the session.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        tokens = await login.refresh(
            parts, token=wanted.refresh_token, address=address_of(request, parts)
        )
    return _answer(parts, tokens)


@router.post("/auth/logout", status_code=204, responses={409: {}})
async def log_out(caller: AccountHolder, parts: Parts) -> None:
    """End the session of this token: it and the session's refresh token are void."""
    if caller.session is None:
        raise Conflict("An API key has no session; revoke it instead.")
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await parts.people.sessions.revoke(
            UUID(caller.session), user_id=UUID(caller.user), because="logout", now=parts.clock()
        )
        parts.people.callers.forget()
        parts.people.events.wake()


@router.get("/auth/validate")
async def validate(caller: Identified, parts: Parts) -> Identity:
    """Say whom the token speaks for, with which role just now, and until when.

    A user may ask a hundred times a minute.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await login.spend(parts, VALIDATION, caller.user)
    return Identity(
        user_id=caller.user,
        username=caller.username,
        role=caller.role,
        expires_at=caller.expires_at,
        tenant=caller.tenant,
        session_id=caller.session,
        scopes=None if caller.scopes is None else tuple(sorted(caller.scopes)),
    )


def shown(text: str) -> str:
    """What a client says of itself, as far as it can be shown."""
    return "".join(char for char in text if char.isascii() and char.isprintable())


def _answer(parts: GatewayParts, tokens: login.Tokens) -> LoginAnswer:
    return LoginAnswer(
        access_token=tokens.access,
        expires_in=parts.people.tokens.life_s,
        refresh_token=tokens.refresh,
        refresh_expires_at=tokens.session.expires_at,
        session_id=str(tokens.session.id),
    )
