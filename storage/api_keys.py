"""API keys: for programs, in the name of a user, for some of what that user may do."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from bus.people import ApiKeyRevoked
from storage.errors import TooManyKeys
from storage.people_event import noted, noting
from storage.postgres import Pool, translated
from storage.sessions import Standing

MAX_LIVE_KEYS: Final = 100
"""Of one user: more of them than a person can keep an eye on."""

_INSERT = """
insert into api_keys (user_id, name, prefix, digest, scopes, created_at, expires_at)
select $1, $2, $3, $4, $5, $6, $7
where (select count(*) from api_keys
       where user_id = $1 and revoked_at is null and expires_at > $6) < $8
returning *
"""
_FIND = """
select k.*, u.username, u.role, u.tenant
from api_keys k join users u on u.id = k.user_id
where k.prefix = $1 and k.revoked_at is null and k.expires_at > $2 and not u.disabled
"""
_LIST = """
select * from api_keys
where user_id = $1 and revoked_at is null and expires_at > $2 order by created_at
"""


_REVOKE = noting(
    """
    update api_keys set revoked_at = $3
    where id = $1 and user_id = $2 and revoked_at is null returning id
    """,
    4,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as its owner may see it again: all but the key.

    Attributes:
        prefix: how it begins, after ``swk_``; it can be told by that.
        digest: SHA-256 of the whole key.
        scopes: the permissions that it has of its owner's.
        last_used_at: to the minute.
    """

    id: UUID
    user_id: UUID
    name: str
    prefix: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "ApiKey":
        """From a row of the api_keys table."""
        return cls(
            id=row["id"],
            user_id=row["user_id"],
            name=row["name"],
            prefix=row["prefix"],
            digest=row["digest"],
            scopes=frozenset(row["scopes"]),
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            last_used_at=row["last_used_at"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedKey:
    """A key that works, and what its owner is at this moment."""

    key: ApiKey
    standing: Standing


class ApiKeyStore:
    """Reads and writes API keys; every method may raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

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
        """Add a key.

        Raises:
            TooManyKeys: the user has 100 that work.
            StorageRefused: the table cannot hold it.
        """
        row = await self._row(
            "create an API key",
            _INSERT,
            user_id,
            name,
            prefix,
            digest,
            sorted(scopes),
            now,
            expires_at,
            MAX_LIVE_KEYS,
        )
        if row is None:
            raise TooManyKeys
        return ApiKey.from_row(row)

    async def by_prefix(self, prefix: str, *, now: datetime) -> OwnedKey | None:
        """The key that begins so, if it and its owner are in force; its digest is to be compared.

        Args:
            prefix: of letters and digits.
            now: the time.
        """
        row = await self._row("read an API key", _FIND, prefix, now)
        if row is None:
            return None
        return OwnedKey(key=ApiKey.from_row(row), standing=Standing.from_row(row))

    async def touch(self, key_id: UUID, *, now: datetime) -> None:
        """Note that the key was used."""
        await self._row(
            "note the use of an API key",
            "update api_keys set last_used_at = greatest(last_used_at, $2) where id = $1",
            key_id,
            now,
        )

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[ApiKey, ...]:
        """The user's keys that work, oldest first."""
        with translated("list API keys"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_LIST, user_id, now)
        return tuple(ApiKey.from_row(row) for row in rows)

    async def revoke(self, key_id: UUID, *, user_id: UUID, now: datetime) -> bool:
        """Put a key of that user out of force and note it for the log.

        Returns:
            False where they have no such key in force.
        """
        event = ApiKeyRevoked(user=str(user_id), key=str(key_id))
        note = noted(event, user=user_id, once=event.key)
        row = await self._row("revoke an API key", _REVOKE, key_id, user_id, now, *note)
        return row is not None

    async def _row(self, action: str, query: str, *values: object) -> asyncpg.Record | None:
        with translated(action):
            async with asyncio.timeout(self._deadline_s):
                return await self._pool.fetchrow(query, *values)
