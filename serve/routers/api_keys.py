"""API keys: for programs that act in one's name, for some of what one may do."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bus.people import ApiKeyCreated
from policies.api_keys import MARK, make_key
from policies.caller import Caller
from policies.rate_limits import API_KEY_CREATION
from policies.roles import SCOPES, Deny, Permission
from serve import login
from serve.access import KeyHolder, Parts
from serve.problems import Conflict, FieldReason, InvalidFields, NotFound
from storage.api_keys import ApiKey
from storage.errors import TooManyKeys

router = APIRouter(prefix="/auth/api-keys", tags=["auth"])

UNKNOWN_KEY: Final = "There is no API key of that id, or it is not in force any more."
MAX_DAYS: Final = 365
DEFAULT_DAYS: Final = 90


def _can_be_shown(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError("must be of characters that can be shown")
    return name.strip()


class ApiKeyRequest(BaseModel):
    """What the key is for, what it may do, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    name: Annotated[str, AfterValidator(_can_be_shown)] = Field(
        min_length=1, max_length=64, description="For you to tell it by."
    )
    scopes: frozenset[Permission] = Field(
        min_length=1, description="Permissions of yours that the key has; it has no others."
    )
    expires_in_days: int = Field(DEFAULT_DAYS, ge=1, le=MAX_DAYS)


class ApiKeyView(BaseModel):
    """A key that is in force, without the key."""

    model_config = ConfigDict(frozen=True)
    id: UUID
    name: str
    prefix: str = Field(description="How the key begins.")
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(None, description="To the minute.")


class NewApiKey(ApiKeyView):
    """A key that was just made. The key itself is not shown again: keep it."""

    key: str = Field(description="Send it as a Bearer token.", repr=False)


class ApiKeyList(BaseModel):
    """The caller's keys that are in force, oldest first."""

    model_config = ConfigDict(frozen=True)
    api_keys: tuple[ApiKeyView, ...]


@router.post("", status_code=201, responses={409: {}})
async def create_api_key(wanted: ApiKeyRequest, caller: KeyHolder, parts: Parts) -> NewApiKey:
    """Make a key. It is shown in this answer and never again.

    It has those permissions of its owner's role that its scopes name, as the role is when
    the key is used. A user may make ten a minute and have a hundred.
    """
    _check_scopes(wanted.scopes, caller)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await login.spend(parts, API_KEY_CREATION, caller.user)
        made, now = make_key(), parts.clock()
        try:
            key = await parts.people.api_keys.create(
                UUID(caller.user),
                name=wanted.name,
                prefix=made.prefix,
                digest=made.digest,
                scopes=frozenset(map(str, wanted.scopes)),
                now=now,
                expires_at=now + timedelta(days=wanted.expires_in_days),
            )
        except TooManyKeys as error:
            raise Conflict(f"{error} {error.hint}") from error
        event = ApiKeyCreated(
            user=caller.user,
            key=str(key.id),
            scopes=tuple(sorted(key.scopes)),
            expires_at=key.expires_at,
        )
        await parts.people.attempts.record(event, user=caller.user, once=event.key)
    return NewApiKey(**_view(key).model_dump(), key=made.text)


@router.get("")
async def api_keys(caller: KeyHolder, parts: Parts) -> ApiKeyList:
    """List one's keys that are in force."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        found = await parts.people.api_keys.of_user(UUID(caller.user), now=parts.clock())
    return ApiKeyList(api_keys=tuple(map(_view, found)))


@router.delete("/{key}", status_code=204)
async def revoke_api_key(key: UUID, caller: KeyHolder, parts: Parts) -> None:
    """Put one of one's own keys out of force, within seconds everywhere."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        revoked = await parts.people.api_keys.revoke(
            key, user_id=UUID(caller.user), now=parts.clock()
        )
        if not revoked:
            raise NotFound(UNKNOWN_KEY)
        parts.people.callers.forget()
        parts.people.events.wake()


def _check_scopes(scopes: frozenset[Permission], caller: Caller) -> None:
    for scope in sorted(scopes):
        if scope not in SCOPES:
            reason = f"no API key may have {str(scope)!r}"
        elif isinstance(caller.may(scope), Deny):
            reason = f"your role does not have {str(scope)!r}"
        else:
            continue
        raise InvalidFields(
            f"scopes: {reason}.", fields=(FieldReason(field="scopes", reason=reason),)
        )


def _view(key: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=key.id,
        name=key.name,
        prefix=MARK + key.prefix,
        scopes=tuple(sorted(key.scopes)),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )
