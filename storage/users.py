"""People who may log in."""

import asyncio
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid4

import asyncpg

from bus.people import UserChanged, UserCreated
from storage.errors import LastAdmin, StorageRefused, UserExists, UserNotFound
from storage.people_event import NOTE, Noted, noted, noting
from storage.postgres import Connection, Pool, translated
from storage.sessions_end import END, SessionsEnd

UserRole = Literal["admin", "user", "viewer"]
_INSERT = """
insert into users (id, username, username_key, password_hash, role, tenant)
values ($1, $2, $3, $4, $5, $6) returning *
"""
_INSERT_NOTED = noting(_INSERT, 7)
_CHANGE = """
update users set role = coalesce($2, role), disabled = coalesce($3, disabled),
    password_hash = coalesce($4, password_hash)
where id = $1 returning *
"""
_ADMINS = "select id from users where role = 'admin' and not disabled"
_REHASH = """
update users set password_hash = $2 where id = $1 and password_hash = $3 returning id
"""
DEFAULT_TENANT: Final = "default"


def username_key(username: str) -> str:
    """What makes two names the same: NFKC and case folding, in no particular language."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person's account; its password hash is never part of the repr.

    Attributes:
        id: never changes, unlike the name.
        username: as given; unique whatever its case.
        password_hash: encoded argon2id hash.
        role: admin, user or viewer.
        disabled: may not log in.
        tenant: whom they belong with.
    """

    id: UUID
    username: str
    password_hash: str = field(repr=False)
    role: UserRole
    created_at: datetime
    disabled: bool
    tenant: str = DEFAULT_TENANT

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "User":
        """From a row of the users table."""
        return cls(
            id=row["id"],
            username=row["username"],
            password_hash=row["password_hash"],
            role=row["role"],
            created_at=row["created_at"],
            disabled=row["disabled"],
            tenant=row["tenant"],
        )


class UserStore:
    """Reads and writes users; every method may raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def create(
        self,
        *,
        username: str,
        password_hash: str,
        role: UserRole,
        tenant: str = DEFAULT_TENANT,
        user_id: UUID | None = None,
        by: UUID | None = None,
    ) -> User:
        """Adds a user.

        Args:
            username: as it shall be shown.
            password_hash: encoded argon2id hash.
            role: what they may do.
            tenant: whom they belong with.
            user_id: if not one of this store's choice.
            by: who made them, for the log, where a person did; that is noted then.

        Raises:
            UserExists: the name is taken, in this or another case.
            StorageRefused: the name is empty, or the role unknown, or that is no tenant's name.
        """
        made = user_id or uuid4()
        values = (made, username, username_key(username), password_hash, role, tenant)
        try:
            if by is None:
                row = await self._row("create a user", _INSERT, *values)
            else:
                event = UserCreated(user=str(made), role=role, tenant=tenant, by=str(by))
                note = noted(event, user=by, once=event.user)
                row = await self._row("create a user", _INSERT_NOTED, *values, *note)
        except StorageRefused as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                message = f"There is a user named {username} already."
                raise UserExists(message) from error
            raise
        if row is None:
            raise StorageRefused("Postgres: an inserted user was not returned.")
        return User.from_row(row)

    async def by_name(self, username: str) -> User | None:
        """The user of that name in whatever case, disabled ones included."""
        if "\0" in username:
            return None  # Postgres has no such text, so no such user
        row = await self._row(
            "read a user",
            "select * from users where username_key = $1",
            username_key(username),
        )
        return None if row is None else User.from_row(row)

    async def by_id(self, user_id: UUID) -> User | None:
        """The user with that id, disabled ones included."""
        row = await self._row(
            "read a user",
            "select * from users where id = $1",
            user_id,
        )
        return None if row is None else User.from_row(row)

    async def all(self) -> tuple[User, ...]:
        """Every user, disabled ones included, in the order in which they were made."""
        with translated("list the users"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch("select * from users order by created_at, id")
        return tuple(User.from_row(row) for row in rows)

    async def count(self) -> int:
        """How many users there are, disabled ones included."""
        row = await self._row("count the users", "select count(*) as users from users")
        return 0 if row is None else int(row["users"])

    async def set_password_hash(
        self, user_id: UUID, password_hash: str, *, instead_of: str
    ) -> bool:
        """Replaces a hash of the same password; False where there is another one by now."""
        row = await self._row("change a user", _REHASH, user_id, password_hash, instead_of)
        return row is not None

    async def set_disabled(self, user_id: UUID, *, disabled: bool) -> None:
        """Bars the user from logging in, or lets them in again.

        Raises:
            UserNotFound: no user has that id.
        """
        await self._change(
            "update users set disabled = $2 where id = $1 returning id", user_id, disabled
        )

    async def change(
        self,
        user_id: UUID,
        *,
        role: UserRole | None = None,
        disabled: bool | None = None,
        password_hash: str | None = None,
        by: UUID | None = None,
        ending: SessionsEnd | None = None,
    ) -> User:
        """Gives the user another role or password, or bars them, or lets them in again.

        Args:
            user_id: whom.
            role: what they may do.
            disabled: whether they may not log in.
            password_hash: of the new password.
            by: who did it, for the log, where a person did; that is noted then.
            ending: of the user's sessions; with the change or not at all.

        Raises:
            UserNotFound: no user has that id.
            LastAdmin: no admin who may log in would be left; nothing was changed.
        """
        with translated("change a user"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                row = await _change(connection, user_id, role, disabled, password_hash)
                if ending is not None:
                    await connection.execute(END, *ending.values(user_id))
                if by is not None:
                    note = _changed(user_id, by, role, disabled, password_hash)
                    await connection.execute(NOTE, *note)
        return User.from_row(row)

    async def _change(self, query: str, user_id: UUID, *values: object) -> None:
        if await self._row("change a user", query, user_id, *values) is None:
            message = f"No user has the id {user_id}."
            raise UserNotFound(message)

    async def _row(self, action: str, query: str, *values: object) -> asyncpg.Record | None:
        with translated(action):
            async with asyncio.timeout(self._deadline_s):
                return await self._pool.fetchrow(query, *values)


async def _change(connection: Connection, user_id: UUID, *values: object) -> asyncpg.Record:
    # Locked in one order: of two admins who demote each other, one stays.
    had = await connection.fetch(f"{_ADMINS} order by id for update")
    row = await connection.fetchrow(_CHANGE, user_id, *values)
    if row is None:
        raise UserNotFound(f"No user has the id {user_id}.")
    if had and not await connection.fetch(_ADMINS):
        raise LastAdmin
    return row


def _changed(
    user_id: UUID,
    by: UUID,
    role: UserRole | None,
    disabled: bool | None,  # noqa: FBT001 - as the event has it
    password_hash: str | None,
) -> Noted:
    """The note of a change, which is another one each time."""
    event = UserChanged(
        user=str(user_id),
        by=str(by),
        role=role,
        disabled=disabled,
        password=password_hash is not None,
    )
    return noted(event, user=by, once=uuid4().hex)
