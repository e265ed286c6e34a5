"""From a bearer token to who is calling, as they stand at this moment.

What a token says is checked by its signature; whether its session goes on, and what role
its user has now, by the database, at most a moment old. So whoever is disabled, demoted or
logged out is so within `STANDING_S`, whatever their token says.
"""

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic as _monotonic
from typing import Final
from uuid import UUID

from bus.people import ApiKeyUsed
from policies.api_keys import MARK, key_digest, prefix_of
from policies.caller import Caller
from policies.errors import InvalidToken
from policies.roles import Role
from policies.token_keys import TokenKeys
from policies.tokens import Claims
from serve.attempts import Attempts
from serve.people_ports import ApiKeys, Sessions
from serve.recently import Recently
from storage.api_keys import OwnedKey
from storage.sessions import Standing

STANDING_S: Final = 2.0
"""How old an answer of the database may be that a request is judged by."""
STALE_S: Final = 900.0
"""How old where the database does not answer: people can look on while it restarts."""
TOUCH_EVERY: Final = timedelta(minutes=1)
_ENDED: Final = "The session has ended: log in again."
_UNKNOWN_KEY: Final = "The API key is not known here, or not in force any more."


class Callers:
    """Tells callers by their tokens and keys.

    Args:
        tokens: checks access tokens.
        sessions: whether a session goes on.
        api_keys: the keys of programs.
        attempts: records the first use of a key.
        monotonic: seconds that only grow.
    """

    def __init__(
        self,
        *,
        tokens: TokenKeys,
        sessions: Sessions,
        api_keys: ApiKeys,
        attempts: Attempts,
        monotonic: Callable[[], float] = _monotonic,
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._api_keys = api_keys
        self._attempts = attempts
        self._standings: Recently[Standing] = Recently(
            fresh_s=STANDING_S, stale_s=STALE_S, monotonic=monotonic
        )
        self._keys: Recently[OwnedKey] = Recently(
            fresh_s=STANDING_S, stale_s=STALE_S, monotonic=monotonic
        )

    async def identify(self, bearer: str, *, now: datetime) -> Caller:
        """Who brings that token or key.

        Raises:
            InvalidToken: it is neither, or not in force.
            StorageUnavailable: nobody can say just now.
        """
        if bearer.startswith(MARK):
            return await self._by_key(bearer, now)
        claims = self._tokens.verify(bearer, now=now)
        return await self._by_claims(claims, now)

    async def still(self, caller: Caller, bearer: str, *, now: datetime) -> bool:
        """Whether who was identified by that token or key would still be, with the same rights.

        Raises:
            StorageUnavailable: nobody can say just now.
        """
        try:
            found = await self.identify(bearer, now=now)
        except InvalidToken:
            return False
        return (found.role, found.tenant) == (caller.role, caller.tenant)

    def forget(self) -> None:
        """Somebody was changed here: ask the database anew."""
        self._standings.forget_all()
        self._keys.forget_all()

    async def _by_claims(self, claims: Claims, now: datetime) -> Caller:
        standing = await self._standing(claims.sid, now)
        if standing is None or str(standing.user_id) != claims.sub:
            raise InvalidToken(_ENDED)
        return Caller(
            user=claims.sub,
            username=standing.username,
            tenant=standing.tenant,
            role=Role(standing.role),
            session=claims.sid,
            expires_at=claims.expires_at,
        )

    async def _standing(self, session: str, now: datetime) -> Standing | None:
        try:
            session_id = UUID(session)
        except ValueError:
            return None
        return await self._standings.get(
            session, lambda: self._sessions.standing(session_id, now=now)
        )

    async def _by_key(self, text: str, now: datetime) -> Caller:
        prefix = prefix_of(text)
        if prefix is None:
            raise InvalidToken(_UNKNOWN_KEY)
        digest = key_digest(text)
        owned = await self._keys.get(digest.hex(), lambda: self._read_key(prefix, digest, now))
        if owned is None or owned.key.expires_at <= now:
            raise InvalidToken(_UNKNOWN_KEY)
        return Caller(
            user=str(owned.key.user_id),
            username=owned.standing.username,
            tenant=owned.standing.tenant,
            role=Role(owned.standing.role),
            api_key=str(owned.key.id),
            scopes=owned.key.scopes,
            expires_at=owned.key.expires_at,
        )

    async def _read_key(self, prefix: str, digest: bytes, now: datetime) -> OwnedKey | None:
        owned = await self._api_keys.by_prefix(prefix, now=now)
        if owned is None or not hmac.compare_digest(owned.key.digest, digest):
            return None
        key, used = owned.key, owned.key.last_used_at
        if used is None:
            first = ApiKeyUsed(user=str(key.user_id), key=str(key.id))
            await self._attempts.record(first, user=first.user, once=first.key)
        if used is None or now - used >= TOUCH_EVERY:
            await self._api_keys.touch(key.id, now=now)
        return owned
