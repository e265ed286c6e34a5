"""What the gateway needs of the stores of sessions, of API keys and of whose a run is."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from bus.event import Draft
from storage.api_keys import ApiKey, OwnedKey
from storage.run_owners import RunOwner
from storage.sessions import (
    ByItsUser,
    Refreshed,
    Refused,
    Reused,
    Session,
    Standing,
)
from storage.users import User


class Outbox(Protocol):
    """What the stores of people noted for the log; what was told is struck out."""

    async def pass_on(self, tell: Callable[[Draft], Awaitable[object]]) -> int:
        """Tell all of it, in order, each at least once; how many were told."""
        ...


class Sessions(Protocol):
    """Logins and what followed from them; see storage/sessions.py for what is atomic."""

    async def open(
        self, user: User, digest: bytes, *, client: str, now: datetime, expires_at: datetime
    ) -> Session | None:
        """Begin a session with its first refresh token.

        None where the user is barred by now, or has another password hash.
        """
        ...

    async def refresh(
        self, digest: bytes, successor: bytes, *, now: datetime, expires_at: datetime, origin: str
    ) -> Refreshed | Reused | Refused:
        """Use a token up and put its successor in its place, or revoke its session.

        Either is noted for the log.
        """
        ...

    async def standing(self, session_id: UUID, *, now: datetime) -> Standing | None:
        """What the session's user may do now; None if either has ended."""
        ...

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[Session, ...]:
        """The user's sessions that have not ended, oldest first."""
        ...

    async def revoke(
        self, session_id: UUID, *, user_id: UUID, because: ByItsUser, now: datetime
    ) -> bool:
        """End a session of that user and note it; False where they have no such session going."""
        ...


class ApiKeys(Protocol):
    """Keys of programs."""

    async def create(
        self,
        user_id: UUID,
        *,
        name: str,
        prefix: str,
        digest: bytes,
        scopes: frozenset[str],
        now: datetime,
        expires_at: datetime,
    ) -> ApiKey:
        """Add a key; TooManyKeys where the user has a hundred."""
        ...

    async def by_prefix(self, prefix: str, *, now: datetime) -> OwnedKey | None:
        """The key that begins so, if it and its owner are in force."""
        ...

    async def touch(self, key_id: UUID, *, now: datetime) -> None:
        """Note that the key was used."""
        ...

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[ApiKey, ...]:
        """The user's keys that work, oldest first."""
        ...

    async def revoke(self, key_id: UUID, *, user_id: UUID, now: datetime) -> bool:
        """Put a key of that user out of force and note it; False where they have no such key."""
        ...


class RunOwners(Protocol):
    """Whose the runs are that the audit log knows."""

    async def of(self, run: str) -> RunOwner | None:
        """The owner by the accepted submission; None where there is none."""
        ...
