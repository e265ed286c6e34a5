"""Users: an admin makes them, changes what they are, and bars them; strangers may register."""

import asyncio
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from policies.errors import NameRejected
from policies.passwords import MAX_BYTES, MIN_CHARACTERS
from policies.rate_limits import REGISTRATION
from policies.roles import Role
from policies.usernames import check_username
from serve import login
from serve.access import REGISTER, Parts, UserManager, address_of
from serve.ports import GatewayParts
from serve.problems import Conflict, FieldReason, InvalidFields, NotAllowed, NotFound
from storage.errors import LastAdmin, UserExists, UserNotFound
from storage.sessions_end import SessionsEnd
from storage.users import DEFAULT_TENANT, User, UserRole

open_router = APIRouter(tags=["auth"])
router = APIRouter(prefix="/v1/users", tags=["users"])

UNKNOWN_USER: Final = "There is no user of that id."
CLOSED: Final = "Registration is closed here: ask an admin for a user."

Username = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        description="Letters of one script, digits and . _ - @ +, in whatever case.",
        json_schema_extra={"pattern": r"^[^\x00-\x20!-*,/:-?\[-^`{-\x7f]+$"},
    ),
]
Password = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_BYTES,
        description=f"At least {MIN_CHARACTERS} characters.",
        json_schema_extra={"minLength": MIN_CHARACTERS},
    ),
]
"""The schema says more than is checked here: what it means is judged, and told, by policies/."""


class Registration(BaseModel):
    """The name and password of a new user."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    username: Username
    password: Password = Field(repr=False)


class UserRequest(Registration):
    """A new user, and what they are."""

    role: Role = Role.USER
    tenant: str = Field(
        DEFAULT_TENANT,
        pattern=r"^[a-z0-9-]{1,32}$",
        description="Whom they belong with: a viewer sees the runs of their tenant.",
    )


class UserChange(BaseModel):
    """What shall be different; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    role: Role | None = None
    disabled: bool | None = None
    password: Password | None = Field(None, repr=False)


class UserView(BaseModel):
    """A user."""

    model_config = ConfigDict(frozen=True)
    id: UUID
    username: str
    role: Role
    tenant: str
    disabled: bool
    created_at: datetime


class UserList(BaseModel):
    """Users in the order in which they were made."""

    model_config = ConfigDict(frozen=True)
    users: tuple[UserView, ...]


@open_router.post(REGISTER, status_code=201, responses={403: {}, 409: {}, 429: {}})
async def register(wanted: Registration, parts: Parts, request: Request) -> UserView:
    """Make oneself a user, where registration is open; then log in.

    Where it is closed, which it is unless the operator says otherwise: 403.
    """
    if parts.people.rules.registration != "open":
        raise NotAllowed(CLOSED)
    async with asyncio.timeout(parts.limits.call_timeout_s):
        await login.spend(parts, REGISTRATION, address_of(request, parts))
        own = uuid4()
        made = await _create(parts, UserRequest(**wanted.model_dump()), own, by=own)
    return _view(made)


@router.get("")
async def users(_: UserManager, parts: Parts) -> UserList:
    """List the users."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        found = await parts.people.users.all()
    return UserList(users=tuple(map(_view, found)))


@router.post("", status_code=201, responses={409: {}})
async def create_user(wanted: UserRequest, caller: UserManager, parts: Parts) -> UserView:
    """Make a user."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        made = await _create(parts, wanted, uuid4(), by=UUID(caller.user))
    return _view(made)


@router.patch("/{user}", responses={409: {}})
async def change_user(
    user: UUID, wanted: UserChange, caller: UserManager, parts: Parts
) -> UserView:
    """Give a user another role or password, bar them, or let them in again.

    It takes effect on what they do within two seconds, whatever token they hold. To be
    barred, or given another password, ends all their sessions; both are done or neither is.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        new = None if wanted.password is None else await login.new_hash(parts, wanted.password)
        changed = await _change(parts, user, wanted, new, by=UUID(caller.user))
        parts.people.callers.forget()
        parts.people.events.wake()
    return _view(changed)


async def _create(parts: GatewayParts, wanted: UserRequest, user_id: UUID, *, by: UUID) -> User:
    try:
        name = check_username(wanted.username)
    except NameRejected as error:
        reason = FieldReason(field="username", reason=str(error))
        raise InvalidFields(str(error), fields=(reason,)) from error
    hashed = await login.new_hash(parts, wanted.password)
    try:
        made = await parts.people.users.create(
            username=name,
            password_hash=hashed,
            role=wanted.role.value,
            tenant=wanted.tenant,
            user_id=user_id,
            by=by,
        )
    except UserExists as error:
        raise Conflict("There is a user of that name already.") from error
    parts.people.events.wake()
    return made


async def _change(
    parts: GatewayParts, user: UUID, wanted: UserChange, password_hash: str | None, *, by: UUID
) -> User:
    role: UserRole | None = None if wanted.role is None else wanted.role.value
    ending = None
    if password_hash is not None or wanted.disabled:
        why: Literal["password", "disabled"] = "disabled" if wanted.disabled else "password"
        ending = SessionsEnd(because=why, now=parts.clock())
    try:
        return await parts.people.users.change(
            user,
            role=role,
            disabled=wanted.disabled,
            password_hash=password_hash,
            by=by,
            ending=ending,
        )
    except UserNotFound as error:
        raise NotFound(UNKNOWN_USER) from error
    except LastAdmin as error:
        raise Conflict(f"{error} {error.hint}") from error


def _view(user: User) -> UserView:
    return UserView(
        id=user.id,
        username=user.username,
        role=Role(user.role),
        tenant=user.tenant,
        disabled=user.disabled,
        created_at=user.created_at,
    )
