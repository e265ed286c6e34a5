"""Sessions of people: a login, and the refresh tokens that followed from it.

A refresh token works once. Whoever brings one a second time ends the session, because
either they or the one before them stole it (RFC 9700, section 4.14.2). The two are told
apart by a row lock: of any number of refreshes with one token, exactly one is the first.

What the log shall say of it is noted by the same statements (storage/people_event.py).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from bus.people import SessionEnded, SessionRefreshed, TokenReused
from storage.people_event import event_id, noted, noting
from storage.postgres import Pool, translated
from storage.users import User, UserRole

ByItsUser = Literal["logout", "revoked"]
"""Why, where its user ended this one."""

# The lock waits for a change of the user that is being made, and holds up one that follows: the
# change ends this session then.
_OPEN = """
with owner as materialized (
    select id from users where id = $1 and password_hash = $5 and not disabled for share
)
insert into sessions (user_id, client, created_at, refreshed_at, expires_at)
select id, $2, $3, $3, $4 from owner returning *
"""
_ADD_FIRST = "insert into refresh_tokens (digest, session_id, expires_at) values ($1, $2, $3)"
# One statement, so that one round trip decides. The session is locked before its token, always:
# two refreshes queue here, and the second finds the token used, though its snapshot says free.
# Used tokens that have expired need not be known.
_REFRESH = """
with found as materialized (
    select s.id, s.user_id, s.revoked_at is null and not u.disabled as is_going,
        u.username, u.role, u.tenant
    from sessions s join users u on u.id = s.user_id
    where s.id = (select session_id from refresh_tokens where digest = $1 and expires_at > $3)
    for update of s
), used as (
    update refresh_tokens set used_at = $3 from found
    where digest = $1 and used_at is null returning session_id, found.user_id, found.is_going
), forgotten as (
    delete from refresh_tokens where session_id = (select id from found) and expires_at <= $3
), next as (
    insert into refresh_tokens (digest, session_id, expires_at)
    select $2, session_id, $4 from used where is_going
), moved as (
    update sessions set refreshed_at = $3, expires_at = $4 from used
    where id = used.session_id and used.is_going returning sessions.*
), noted as (
    insert into people_event (id, type, payload, user_id)
    select $5, $6, jsonb_build_object('user', user_id, 'session', session_id), user_id
    from used where is_going
)
select moved.*, found.id as found_id, found.user_id as found_user_id, found.is_going,
    found.username, found.role, found.tenant, exists (select from used) as is_first
from found left join moved on true
"""
_REVOKE = noting(
    """
    update sessions set revoked_at = $2, revoked_because = $3
    where id = $1 and user_id = $4 and revoked_at is null returning id
    """,
    5,
)
_STANDING = """
select u.id as user_id, u.username, u.role, u.tenant
from sessions s join users u on u.id = s.user_id
where s.id = $1 and s.revoked_at is null and s.expires_at > $2 and not u.disabled
"""
_LIST = """
select * from sessions
where user_id = $1 and revoked_at is null and expires_at > $2 order by created_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login that is good until it expires or is revoked.

    Attributes:
        client: what the client called itself when it logged in.
        refreshed_at: the last time that a token was refreshed, or the login.
        expires_at: when its newest refresh token ends.
    """

    id: UUID
    user_id: UUID
    client: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "Session":
        """From a row of the sessions table."""
        return cls(
            id=row["id"],
            user_id=row["user_id"],
            client=row["client"],
            created_at=row["created_at"],
            refreshed_at=row["refreshed_at"],
            expires_at=row["expires_at"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a user is at this moment, whatever their token says."""

    user_id: UUID
    username: str
    role: UserRole
    tenant: str

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "Standing":
        """From a row with a user's columns."""
        return cls(
            user_id=row["user_id"],
            username=row["username"],
            role=row["role"],
            tenant=row["tenant"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """The token was good, and is used up now."""

    session: Session
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """The token had been used before; its session is revoked.

    Attributes:
        newly: whether it was this call that revoked it.
    """

    session_id: UUID
    user_id: UUID
    newly: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The token is unknown or expired, or its session or user has ended."""


class SessionStore:
    """Reads and writes sessions; every method may raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def open(
        self, user: User, digest: bytes, *, client: str, now: datetime, expires_at: datetime
    ) -> Session | None:
        """Begin a session with its first refresh token; what has expired of the user goes.

        None where the user is barred by now, or has another password hash: a change that ends
        the sessions of a user ends this one too, or comes before it.

        Args:
            user: who logged in, with the hash that their password was looked at by.
            digest: SHA-256 of the token.
            client: what the client calls itself.
            now: the time.
            expires_at: until when the token works.
        """
        with translated("open a session"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                row = await connection.fetchrow(
                    _OPEN, user.id, client, now, expires_at, user.password_hash
                )
                if row is None:
                    return None
                session = Session.from_row(row)
                await connection.execute(
                    "delete from sessions where user_id = $1 and expires_at <= $2", user.id, now
                )
                await connection.execute(_ADD_FIRST, digest, session.id, expires_at)
        return session

    async def refresh(
        self, digest: bytes, successor: bytes, *, now: datetime, expires_at: datetime, origin: str
    ) -> Refreshed | Reused | Refused:
        """Use a token up and put its successor in its place, or revoke its session.

        Either is noted for the log; that a session which had ended already is not revoked is not.

        Args:
            digest: SHA-256 of the token that was brought.
            successor: SHA-256 of the next one.
            now: the time.
            expires_at: until when the next one works; the session with it.
            origin: what stands for the address that it came from.
        """
        kind = SessionRefreshed.TYPE
        values = (digest, successor, now, expires_at, event_id(kind, successor.hex()), kind)
        with translated("refresh a session"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_REFRESH, *values)
                if row is not None and not row["is_first"]:
                    return await self._reused(row["found_id"], row["found_user_id"], now, origin)
        if row is None or not row["is_going"]:
            return Refused()
        return Refreshed(session=Session.from_row(row), standing=Standing.from_row(row))

    async def _reused(self, session_id: UUID, user_id: UUID, now: datetime, origin: str) -> Reused:
        stolen = TokenReused(user=str(user_id), session=str(session_id), origin=origin)
        note = noted(stolen, user=user_id, once=stolen.session)
        revoked = await self._pool.fetchrow(_REVOKE, session_id, now, "reuse", user_id, *note)
        return Reused(session_id=session_id, user_id=user_id, newly=revoked is not None)

    async def standing(self, session_id: UUID, *, now: datetime) -> Standing | None:
        """What the session's user may do now; None if either of them has ended."""
        with translated("read a session"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_STANDING, session_id, now)
        return None if row is None else Standing.from_row(row)

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[Session, ...]:
        """The user's sessions that have not ended, oldest first."""
        with translated("list sessions"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_LIST, user_id, now)
        return tuple(Session.from_row(row) for row in rows)

    async def revoke(
        self, session_id: UUID, *, user_id: UUID, because: ByItsUser, now: datetime
    ) -> bool:
        """End a session of that user and note it; False where they have no such session going."""
        ended = SessionEnded(user=str(user_id), session=str(session_id), because=because)
        note = noted(ended, user=user_id, once=ended.session)
        with translated("end a session"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_REVOKE, session_id, now, because, user_id, *note)
        return row is not None
