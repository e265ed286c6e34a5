"""Logging in, and asking who one is."""

import asyncio
from datetime import datetime
from math import ceil

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from policies.roles import Allow, Role
from serve.access import LOGIN, Caller, Parts
from serve.ports import GatewayParts
from serve.problems import NotAuthenticated, TooManyRequests
from storage.cache import Deny
from storage.errors import StorageUnavailable
from storage.users import User, username_key

log = structlog.get_logger()
open_router = APIRouter(tags=["auth"])
router = APIRouter(tags=["auth"])


class LoginRequest(BaseModel):
    """A user name and a password."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=1_024)


class LoginAnswer(BaseModel):
    """An access token and how long it lasts."""

    model_config = ConfigDict(frozen=True)
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = Field(description="Seconds.")


class Identity(BaseModel):
    """Whom the token speaks for."""

    model_config = ConfigDict(frozen=True)
    user_id: str
    username: str
    role: Role
    expires_at: datetime


@open_router.post(LOGIN, responses={401: {}, 429: {}})
async def log_in(credentials: LoginRequest, parts: Parts) -> LoginAnswer:
    """Exchange a user name and password for an access token.

    An unknown user, a disabled one and a wrong password get the same answer after the
    same work. Failed attempts are counted per user name; over the limit, 429.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        user = await _checked(credentials, parts)
    token = parts.token_issuer.issue(
        str(user.id), user.username, Role(user.role), parts.token_ttl_s, now=parts.clock()
    )
    log.info("login.succeeded", user=str(user.id))
    return LoginAnswer(access_token=token, expires_in=parts.token_ttl_s)


@router.get("/auth/validate")
async def validate(caller: Caller) -> Identity:
    """Say whom the token speaks for, and until when."""
    return Identity(
        user_id=caller.sub,
        username=caller.username,
        role=caller.role,
        expires_at=caller.expires_at,
    )


async def _checked(credentials: LoginRequest, parts: GatewayParts) -> User:
    key = username_key(credentials.username)
    attempt = await parts.throttle.check(key)
    if isinstance(attempt, Deny):
        wait_s = max(1, ceil(attempt.retry_after_s))
        raise TooManyRequests(attempt.reason, headers={"Retry-After": str(wait_s)})
    try:
        user = await parts.users.by_name(credentials.username)
    except StorageUnavailable:
        await parts.throttle.not_made(key)
        raise
    stored = None if user is None or user.disabled else user.password_hash
    verdict = await parts.passwords.verify(credentials.password, stored)
    if user is None or not isinstance(verdict, Allow):
        log.warning("login.refused")
        raise NotAuthenticated(
            "The user name or the password is wrong.",
            headers={"WWW-Authenticate": 'Bearer realm="swarm"'},
        )
    await parts.throttle.succeeded(key)
    return user
