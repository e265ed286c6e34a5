"""From a user name and a password, or a refresh token, to the tokens of a session.

First the limits, then the password, then the session, then its record in the log, then the
answer: what is answered is durable, and what is refused cost nothing but its count. Of what is
done with a session that there is already, the record is noted with it and the log told later: a
broker that is away logs nobody out, and lets nobody in.
"""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import ceil
from typing import Final

import structlog

from bus.errors import SwarmError
from bus.people import LoginRefused, LoginSucceeded, RefreshRefused, TokenReused
from policies.errors import PasswordRejected
from policies.rate_limits import LOGIN, REFRESH, RateLimit
from policies.refresh_tokens import make_refresh_token, refresh_digest
from policies.roles import Allow, Role
from serve.people import expires_at
from serve.ports import GatewayParts
from serve.problems import FieldReason, InvalidFields, NotAuthenticated, TooManyRequests
from storage.cache import Deny
from storage.errors import StorageUnavailable
from storage.sessions import Refreshed, Reused, Session, Standing
from storage.users import User, username_key

log = structlog.get_logger()

LOGIN_NAME: Final = "login_name"
"""What the record calls attempts that were refused because of the user's name."""
_WRONG: Final = "The user name or the password is wrong."
_NO_REFRESH: Final = "The refresh token is not valid: log in again."
CLIENT_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a session's client is given."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    session: Session


async def log_in(
    parts: GatewayParts, *, username: str, password: str, address: str, client: str
) -> Tokens:
    """Begin a session.

    Raises:
        TooManyRequests: of the address, or for the name.
        NotAuthenticated: whatever else is wrong, in the same words after the same work.
    """
    user = await authenticate(parts, username=username, password=password, address=address)
    now, refresh = parts.clock(), make_refresh_token()
    until = expires_at(now, parts.people.rules.refresh_life_s)
    session = await parts.people.sessions.open(
        user,
        sha256(refresh.encode()).digest(),
        client=client[:CLIENT_CHARS],
        now=now,
        expires_at=until,
    )
    if session is None:  # the password was changed since, or the user barred
        raise await _wrong(parts, username_key(username), address)
    who = str(user.id)
    began = LoginSucceeded(
        user=who, session=str(session.id), origin=parts.people.attempts.hash(address)
    )
    await parts.people.attempts.record(began, user=who, once=began.session)
    log.info("login.succeeded", user=who)
    return Tokens(
        access=_access(
            parts,
            session,
            Standing(user_id=user.id, username=user.username, role=user.role, tenant=user.tenant),
        ),
        refresh=refresh,
        session=session,
    )


async def refresh(parts: GatewayParts, *, token: str, address: str) -> Tokens:
    """Exchange a refresh token for the next tokens of its session.

    Raises:
        TooManyRequests: of the address.
        NotAuthenticated: the token is not good. If it was used before, its session is over.
    """
    await spend(parts, REFRESH, address)
    attempts, now = parts.people.attempts, parts.clock()
    digest, successor = refresh_digest(token), make_refresh_token()
    origin = attempts.hash(address)
    if digest is None:
        await attempts.record(RefreshRefused(origin=origin))
        raise _refused()
    outcome = await parts.people.sessions.refresh(
        digest,
        sha256(successor.encode()).digest(),
        now=now,
        expires_at=expires_at(now, parts.people.rules.refresh_life_s),
        origin=origin,
    )
    parts.people.events.wake()
    match outcome:
        case Refreshed(session=session, standing=standing):
            access = _access(parts, session, standing)
            return Tokens(access=access, refresh=successor, session=session)
        case Reused(session_id=session_id, user_id=user_id, newly=newly):
            parts.people.callers.forget()
            who, ended = str(user_id), str(session_id)
            log.warning("refresh.reused", user=who, session=ended)
            if not newly:  # nothing was done that could have been noted
                stolen = TokenReused(user=who, session=ended, origin=origin)
                await attempts.record(stolen, user=who, once=ended)
        case _:
            await attempts.record(RefreshRefused(origin=origin))
    raise _refused()


async def authenticate(parts: GatewayParts, *, username: str, password: str, address: str) -> User:
    """The user whose name and password these are; failures count by address and by name.

    Raises:
        TooManyRequests: of the address, or for that name.
        NotAuthenticated: there is no such user, or they are disabled, or it is not theirs.
    """
    await spend(parts, LOGIN, address)
    user = await _check_password(parts, username=username, password=password, address=address)
    await _give_back(parts, address)
    return user


async def _check_password(
    parts: GatewayParts, *, username: str, password: str, address: str
) -> User:
    people, key = parts.people, username_key(username)
    attempt = await people.throttle.check(key)
    if isinstance(attempt, Deny):
        await people.attempts.limited(LOGIN_NAME, address)
        raise too_many(attempt)
    try:
        user = await people.users.by_name(username)
    except StorageUnavailable:
        await people.throttle.not_made(key)
        await _give_back(parts, address)
        raise
    stored = None if user is None or user.disabled else user.password_hash
    verdict = await people.passwords.verify(password, stored)
    if user is None or not isinstance(verdict, Allow):
        raise await _wrong(parts, key, address)
    await people.throttle.succeeded(key)
    if people.passwords.needs_rehash(user.password_hash):
        user = await _rehashed(parts, user, password)
        if user is None:
            raise await _wrong(parts, key, address)
    return user


async def _rehashed(parts: GatewayParts, user: User, password: str) -> User | None:
    """The user under a hash of today's cost; None where the password is another one by now."""
    users, made = parts.people.users, await new_hash(parts, password)
    if await users.set_password_hash(user.id, made, instead_of=user.password_hash):
        return replace(user, password_hash=made)
    current = await users.by_id(user.id)  # another login may have been faster
    stored = None if current is None or current.disabled else current.password_hash
    verdict = await parts.people.passwords.verify(password, stored)
    return current if isinstance(verdict, Allow) else None


async def _wrong(parts: GatewayParts, key: str, address: str) -> NotAuthenticated:
    """The refusal of a login, once it is on record."""
    attempts = parts.people.attempts
    await attempts.record(LoginRefused(name=attempts.hash(key), origin=attempts.hash(address)))
    log.warning("login.refused")
    return NotAuthenticated(_WRONG, headers={"WWW-Authenticate": 'Bearer realm="swarm"'})


async def new_hash(parts: GatewayParts, password: str, field_name: str = "password") -> str:
    """The hash of a new password.

    Raises:
        InvalidFields: it is too short or too long.
    """
    try:
        return await parts.people.passwords.hash(password)
    except PasswordRejected as error:
        reason = FieldReason(field=field_name, reason=str(error))
        raise InvalidFields(str(error), fields=(reason,)) from error


async def spend(parts: GatewayParts, limit: RateLimit, who: str) -> None:
    """Take one of the places that a limit has for somebody.

    Raises:
        TooManyRequests: there is none left.
    """
    verdict = await parts.people.rates.hit(limit, who)
    if isinstance(verdict, Deny):
        await parts.people.attempts.limited(limit.name, who)
        raise too_many(verdict)


def too_many(denied: Deny) -> TooManyRequests:
    """The refusal that says when to come back."""
    wait_s = max(1, ceil(denied.retry_after_s))
    return TooManyRequests(denied.reason, headers={"Retry-After": str(wait_s)})


def _access(parts: GatewayParts, session: Session, standing: Standing) -> str:
    return parts.people.tokens.issue(
        str(standing.user_id),
        standing.username,
        Role(standing.role),
        session=str(session.id),
        now=parts.clock(),
    )


async def _give_back(parts: GatewayParts, address: str) -> None:
    """An attempt that was no failure does not count against the address."""
    try:
        await parts.people.rates.give_back(LOGIN, address)
    except SwarmError as error:
        log.warning("login.still_counted", code=error.code)


def _refused() -> NotAuthenticated:
    challenge = 'Bearer realm="swarm", error="invalid_token"'
    return NotAuthenticated(_NO_REFRESH, headers={"WWW-Authenticate": challenge})
