"""Users, sessions, keys and limits in memory, with the promises of their stores."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from bus.errors import SwarmError
from bus.event import Draft
from bus.payload import Payload
from bus.people import (
    ApiKeyRevoked,
    SessionEnded,
    SessionRefreshed,
    TokenReused,
    UserChanged,
    UserCreated,
)
from policies.rate_limits import RateLimit
from storage.api_keys import MAX_LIVE_KEYS, ApiKey, OwnedKey
from storage.cache import Allow, Deny
from storage.errors import LastAdmin, StorageUnavailable, TooManyKeys, UserExists, UserNotFound
from storage.people_event import people_event
from storage.run_owners import RunOwner
from storage.sessions import (
    ByItsUser,
    Refreshed,
    Refused,
    Reused,
    Session,
    Standing,
)
from storage.sessions_end import SessionsEnd
from storage.users import DEFAULT_TENANT, User, UserRole, username_key

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class MemoryOutbox:
    """What the stores below have noted, oldest first."""

    def __init__(self) -> None:
        self.noted: list[Draft] = []

    def note(self, payload: Payload, user: UUID, once: str) -> None:
        self.noted.append(people_event(payload, user=str(user), once=once))

    async def pass_on(self, tell: Callable[[Draft], Awaitable[object]]) -> int:
        told = 0
        for draft in list(self.noted):
            try:
                await tell(draft)
            except SwarmError as error:
                if error.retryable:
                    raise
                continue
            self.noted.remove(draft)
            told += 1
        return told


class MemoryUsers:
    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.outbox = MemoryOutbox()
        self.down = False
        self.end_sessions: Callable[[UUID, SessionsEnd], Awaitable[None]] | None = None

    def add(
        self,
        name: str,
        role: UserRole,
        password_hash: str,
        *,
        disabled: bool = False,
        tenant: str = DEFAULT_TENANT,
        user_id: UUID | None = None,
    ) -> User:
        user = User(
            id=user_id or UUID(int=len(self.users) + 1),
            username=name,
            password_hash=password_hash,
            role=role,
            created_at=NOW,
            disabled=disabled,
            tenant=tenant,
        )
        self.users[username_key(name)] = user
        return user

    def check_up(self) -> None:
        if self.down:
            raise StorageUnavailable("Postgres at 10.0.0.7: connection refused")

    async def by_name(self, username: str) -> User | None:
        self.check_up()
        return self.users.get(username_key(username))

    async def by_id(self, user_id: UUID) -> User | None:
        self.check_up()
        return next((user for user in self.users.values() if user.id == user_id), None)

    async def all(self) -> tuple[User, ...]:
        self.check_up()
        return tuple(self.users.values())

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
        self.check_up()
        if username_key(username) in self.users:
            raise UserExists
        made = self.add(username, role, password_hash, tenant=tenant, user_id=user_id)
        if by is not None:
            who = str(made.id)
            event = UserCreated(user=who, role=role, tenant=tenant, by=str(by))
            self.outbox.note(event, by, who)
        return made

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
        user = await self.by_id(user_id)
        if user is None:
            raise UserNotFound
        changed = replace(
            user,
            role=user.role if role is None else role,
            disabled=user.disabled if disabled is None else disabled,
            password_hash=password_hash or user.password_hash,
        )
        left = [changed if each.id == user_id else each for each in self.users.values()]
        if not any(each.role == "admin" and not each.disabled for each in left):
            raise LastAdmin
        if ending is not None and self.end_sessions is not None:
            await self.end_sessions(user_id, ending)
        self.users[username_key(user.username)] = changed
        if by is not None:
            event = UserChanged(
                user=str(user_id),
                by=str(by),
                role=role,
                disabled=disabled,
                password=password_hash is not None,
            )
            self.outbox.note(event, by, uuid4().hex)
        return changed

    async def set_password_hash(
        self, user_id: UUID, password_hash: str, *, instead_of: str
    ) -> bool:
        user = await self.by_id(user_id)
        if user is None or user.password_hash != instead_of:
            return False
        self.users[username_key(user.username)] = replace(user, password_hash=password_hash)
        return True


class MemorySessions:
    def __init__(self, users: MemoryUsers) -> None:
        self._users = users
        users.end_sessions = self.end
        self.sessions: dict[UUID, Session] = {}
        self.ended: dict[UUID, str] = {}
        self.tokens: dict[bytes, tuple[UUID, bool]] = {}
        self.asked = 0
        self.faults = 0
        """So many times the sessions of a user cannot be ended."""

    def begin(self, user_id: UUID, *, now: datetime, digest: bytes = b"") -> Session:
        session = Session(
            id=uuid4(),
            user_id=user_id,
            client="",
            created_at=now,
            refreshed_at=now,
            expires_at=now + timedelta(days=30),
        )
        self.sessions[session.id] = session
        self.tokens[digest] = (session.id, False)
        return session

    async def open(
        self, user: User, digest: bytes, *, client: str, now: datetime, expires_at: datetime
    ) -> Session | None:
        current = await self._users.by_id(user.id)
        if current is None or current.disabled or current.password_hash != user.password_hash:
            return None
        began = self.begin(user.id, now=now, digest=digest)
        session = replace(began, client=client, expires_at=expires_at)
        self.sessions[session.id] = session
        return session

    async def refresh(
        self, digest: bytes, successor: bytes, *, now: datetime, expires_at: datetime, origin: str
    ) -> Refreshed | Reused | Refused:
        self._users.check_up()
        if digest not in self.tokens:
            return Refused()
        session_id, used = self.tokens[digest]
        session = self.sessions[session_id]
        who, which = str(session.user_id), str(session_id)
        if used:
            newly = session_id not in self.ended
            self.ended.setdefault(session_id, "reuse")
            if newly:
                stolen = TokenReused(user=who, session=which, origin=origin)
                self._users.outbox.note(stolen, session.user_id, which)
            return Reused(session_id=session_id, user_id=session.user_id, newly=newly)
        standing = await self.standing(session_id, now=now)
        self.tokens[digest] = (session_id, True)
        if standing is None:
            return Refused()
        self.tokens[successor] = (session_id, False)
        self.sessions[session_id] = replace(session, refreshed_at=now, expires_at=expires_at)
        done = SessionRefreshed(user=who, session=which)
        self._users.outbox.note(done, session.user_id, successor.hex())
        return Refreshed(session=self.sessions[session_id], standing=standing)

    async def standing(self, session_id: UUID, *, now: datetime) -> Standing | None:
        self._users.check_up()
        self.asked += 1
        session = self.sessions.get(session_id)
        if session is None or session_id in self.ended or session.expires_at <= now:
            return None
        user = await self._users.by_id(session.user_id)
        return None if user is None or user.disabled else standing_of(user)

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[Session, ...]:
        return tuple(
            session
            for session in self.sessions.values()
            if session.user_id == user_id
            and session.id not in self.ended
            and session.expires_at > now
        )

    async def revoke(
        self, session_id: UUID, *, user_id: UUID, because: ByItsUser, now: datetime
    ) -> bool:
        session = self.sessions.get(session_id)
        if session not in await self.of_user(user_id, now=now):
            return False
        self.ended[session_id] = because
        which = str(session_id)
        event = SessionEnded(user=str(user_id), session=which, because=because)
        self._users.outbox.note(event, user_id, which)
        return True

    async def end(self, user_id: UUID, ending: SessionsEnd) -> None:
        if self.faults:
            self.faults -= 1
            raise StorageUnavailable("Postgres at 10.0.0.7: connection reset")
        going = await self.of_user(user_id, now=ending.now)
        others = [each.id for each in going if each.id != ending.but]
        self.ended.update(dict.fromkeys(others, ending.because))


class MemoryApiKeys:
    def __init__(self, users: MemoryUsers) -> None:
        self._users = users
        self.keys: dict[UUID, ApiKey] = {}

    def add(
        self,
        user_id: UUID,
        *,
        prefix: str,
        digest: bytes,
        scopes: frozenset[str],
        now: datetime,
        name: str = "key",
        expires_at: datetime | None = None,
    ) -> ApiKey:
        key = ApiKey(
            id=uuid4(),
            user_id=user_id,
            name=name,
            prefix=prefix,
            digest=digest,
            scopes=scopes,
            created_at=now,
            expires_at=expires_at or now + timedelta(days=90),
            last_used_at=None,
        )
        self.keys[key.id] = key
        return key

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
        if len(await self.of_user(user_id, now=now)) >= MAX_LIVE_KEYS:
            raise TooManyKeys
        return self.add(
            user_id,
            prefix=prefix,
            digest=digest,
            scopes=scopes,
            now=now,
            name=name,
            expires_at=expires_at,
        )

    async def by_prefix(self, prefix: str, *, now: datetime) -> OwnedKey | None:
        self._users.check_up()
        for key in self.keys.values():
            user = await self._users.by_id(key.user_id)
            if key.prefix == prefix and key.expires_at > now and user and not user.disabled:
                return OwnedKey(key=key, standing=standing_of(user))
        return None

    async def touch(self, key_id: UUID, *, now: datetime) -> None:
        self.keys[key_id] = replace(self.keys[key_id], last_used_at=now)

    async def of_user(self, user_id: UUID, *, now: datetime) -> tuple[ApiKey, ...]:
        return tuple(
            key for key in self.keys.values() if key.user_id == user_id and key.expires_at > now
        )

    async def revoke(self, key_id: UUID, *, user_id: UUID, now: datetime) -> bool:
        if key_id not in {key.id for key in await self.of_user(user_id, now=now)}:
            return False
        del self.keys[key_id]
        event = ApiKeyRevoked(user=str(user_id), key=str(key_id))
        self._users.outbox.note(event, user_id, str(key_id))
        return True


@dataclass
class MemoryThrottle:
    limit: int = 3
    attempts: dict[str, int] = field(default_factory=dict)

    async def check(self, key: str) -> Allow | Deny:
        if self.attempts.get(key, 0) >= self.limit:
            return Deny(reason="Too many failed attempts.", retry_after_s=41.2)
        self.attempts[key] = self.attempts.get(key, 0) + 1
        return Allow(remaining=self.limit - self.attempts[key])

    async def not_made(self, key: str) -> None:
        self.attempts[key] -= 1

    async def succeeded(self, key: str) -> None:
        self.attempts.pop(key, None)


@dataclass
class MemoryRates:
    """Counts without windows; only limits that a test switches on deny anything."""

    enforced: set[str] = field(default_factory=set)
    taken: dict[tuple[str, str], int] = field(default_factory=dict)

    async def hit(self, limit: RateLimit, who: str) -> Allow | Deny:
        slot = (limit.name, who)
        if limit.name in self.enforced and self.taken.get(slot, 0) >= limit.amount:
            return Deny(reason="Too many attempts; wait before the next.", retry_after_s=59.5)
        self.taken[slot] = self.taken.get(slot, 0) + 1
        return Allow(remaining=max(0, limit.amount - self.taken[slot]))

    async def give_back(self, limit: RateLimit, who: str) -> None:
        self.taken[limit.name, who] -= 1


class MemoryOwners:
    """What the audit log knows of whose runs are."""

    def __init__(self) -> None:
        self.owners: dict[str, RunOwner] = {}

    async def of(self, run: str) -> RunOwner | None:
        return self.owners.get(run)


def standing_of(user: User) -> Standing:
    return Standing(user_id=user.id, username=user.username, role=user.role, tenant=user.tenant)
