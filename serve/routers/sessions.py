"""One's own sessions: see where one is logged in, and end what one does not know."""

import asyncio
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serve import login
from serve.access import AccountHolder, Parts, address_of
from serve.problems import NotFound
from storage.sessions import Session
from storage.sessions_end import SessionsEnd

router = APIRouter(prefix="/auth", tags=["auth"])

UNKNOWN_SESSION = "There is no session of that id, or it has ended."


class SessionView(BaseModel):
    """A login that goes on."""

    model_config = ConfigDict(frozen=True)
    id: UUID
    client: str = Field(description="What the client called itself when it logged in.")
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime = Field(description="When it ends if it is not refreshed before.")
    current: bool = Field(description="Whether it is the one that asks.")


class SessionList(BaseModel):
    """The caller's sessions, oldest first."""

    model_config = ConfigDict(frozen=True)
    sessions: tuple[SessionView, ...]


class PasswordChange(BaseModel):
    """The password as it is, and as it shall be."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    current_password: str = Field(min_length=1, max_length=1_024, repr=False)
    new_password: str = Field(min_length=1, max_length=1_024, repr=False)


@router.get("/sessions")
async def sessions(caller: AccountHolder, parts: Parts) -> SessionList:
    """List where one is logged in."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        found = await parts.people.sessions.of_user(UUID(caller.user), now=parts.clock())
    return SessionList(sessions=tuple(_view(each, caller.session) for each in found))


@router.delete("/sessions/{session}", status_code=204)
async def end_session(session: UUID, caller: AccountHolder, parts: Parts) -> None:
    """End one of one's own sessions; its tokens are void."""
    async with asyncio.timeout(parts.limits.call_timeout_s):
        ended = await parts.people.sessions.revoke(
            session, user_id=UUID(caller.user), because="revoked", now=parts.clock()
        )
        if not ended:
            raise NotFound(UNKNOWN_SESSION)
        parts.people.callers.forget()
        parts.people.events.wake()


@router.post("/password", status_code=204)
async def change_password(
    wanted: PasswordChange, caller: AccountHolder, parts: Parts, request: Request
) -> None:
    """Change one's password. Every other session ends; API keys go on.

    Both are done or neither is. A wrong current password counts as a failed attempt to log in.
    """
    async with asyncio.timeout(parts.limits.call_timeout_s):
        user = await login.authenticate(
            parts,
            username=caller.username,
            password=wanted.current_password,
            address=address_of(request, parts),
        )
        new = await login.new_hash(parts, wanted.new_password, "new_password")
        own = None if caller.session is None else UUID(caller.session)
        ending = SessionsEnd(because="password", now=parts.clock(), but=own)
        await parts.people.users.change(user.id, password_hash=new, by=user.id, ending=ending)
        parts.people.callers.forget()
        parts.people.events.wake()


def _view(session: Session, current: str | None) -> SessionView:
    return SessionView(
        id=session.id,
        client=session.client,
        created_at=session.created_at,
        refreshed_at=session.refreshed_at,
        expires_at=session.expires_at,
        current=str(session.id) == current,
    )
