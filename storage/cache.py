"""Redis protocol: a thin connection, and the counter that slows password guessing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.errors import StorageError, StorageRefused, StorageUnavailable

log = structlog.get_logger()

UNAVAILABLE_RETRY_S = 5.0
"""What a caller is told to wait while the counter cannot be read."""

# Takes one place in the window, if there is one left. Counting on entry and not
# after a failure means that guesses sent side by side are all counted.
_TAKE = """
local taken = tonumber(redis.call('get', KEYS[1]) or '0')
if taken > 0 and redis.call('pttl', KEYS[1]) < 0 then
  redis.call('pexpire', KEYS[1], ARGV[2])
end
if taken >= tonumber(ARGV[1]) then
  return {0, redis.call('pttl', KEYS[1])}
end
taken = redis.call('incr', KEYS[1])
if taken == 1 then
  redis.call('pexpire', KEYS[1], ARGV[2])
end
return {1, tonumber(ARGV[1]) - taken}
"""


# Gives a place back; one whose window has ended meanwhile is not owed any more.
_GIVE_BACK = """
if tonumber(redis.call('get', KEYS[1]) or '0') > 0 then
  redis.call('decr', KEYS[1])
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The attempt may go on; `remaining` more may follow in this window if it fails."""

    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The attempt must be refused without looking at the password.

    Attributes:
        reason: a sentence for the person.
        retry_after_s: seconds until it makes sense to try again.
    """

    reason: str
    retry_after_s: float


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turns what the driver raises into the StorageError that it means.

    Raises:
        StorageUnavailable: no connection, or no answer in time.
        StorageRefused: the server answered with an error.
    """
    try:
        yield
    except StorageError:
        raise
    except (RedisTimeoutError, TimeoutError) as error:
        message = f"Redis: could not {action} in time."
        raise StorageUnavailable(message) from error
    except (RedisConnectionError, OSError) as error:
        message = f"Redis: could not {action}: no connection."
        raise StorageUnavailable(message) from error
    except RedisError as error:
        message = f"Redis: could not {action}: {error}."
        raise StorageRefused(message) from error


class Cache:
    """A connection to Valkey or Redis; what it holds may vanish at any time."""

    def __init__(
        self, client: "redis.asyncio.Redis", *, deadline_s: float, connections: int
    ) -> None:
        self.client = client
        self._deadline_s = deadline_s
        self._turns = asyncio.Semaphore(connections)
        self._take = client.register_script(_TAKE)
        self._give_back = client.register_script(_GIVE_BACK)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, deadline_s: float = 2.0, connections: int = 32
    ) -> AsyncIterator["Cache"]:
        """A cache at that address, closed at the end. Connects when first used.

        Args:
            url: ``redis://host:port/0``, or ``rediss://`` for TLS.
            deadline_s: for each command; none is repeated.
            connections: most connections at once; a command beyond them waits for its turn.

        Raises:
            StorageRefused: the address is not one of Redis.
        """
        try:
            client = redis.asyncio.Redis.from_url(
                url,
                socket_connect_timeout=deadline_s,
                max_connections=connections,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise StorageRefused("Redis: the address is not a redis:// URL.") from error
        try:
            yield cls(client, deadline_s=deadline_s, connections=connections)
        finally:
            await client.aclose()

    @asynccontextmanager
    async def command(self, action: str) -> AsyncIterator[None]:
        """One use of `client`, within the deadline, its errors translated."""
        with translated(action):
            async with asyncio.timeout(self._deadline_s), self._turns:
                yield

    async def ping(self) -> None:
        """Returns if the server answers.

        Raises:
            StorageUnavailable: it does not, within the deadline.
        """
        async with self.command("ping"):
            await self.client.ping()

    async def take(self, key: str, *, limit: int, window_s: float) -> Allow | Deny:
        """Takes one of `limit` places under a key; all come back when the window ends.

        The window begins with the first place taken.
        """
        async with self.command("count an attempt"):
            args = [limit, max(1, round(window_s * 1000))]
            taken, value = await self._take(keys=[key], args=args)
        if taken:
            return Allow(remaining=value)
        return Deny(reason="Too many failed attempts.", retry_after_s=max(value, 1) / 1000)

    async def give_back(self, key: str) -> None:
        """Gives one place under a key back before its window ends."""
        async with self.command("give an attempt back"):
            await self._give_back(keys=[key])

    async def taken(self, key: str) -> int:
        """How many places under a key are taken."""
        async with self.command("read a counter"):
            value = await self.client.get(key)
        return 0 if value is None else int(value)

    async def forget(self, key: str) -> None:
        """Removes a key."""
        async with self.command("remove a key"):
            await self.client.delete(key)


class LoginThrottle:
    """Lets `limit` attempts fail within `window_s`, then denies until the window ends.

    Every attempt counts as failed from check() on, until succeeded() clears
    the count: attempts made side by side cannot slip past the limit, and one
    that is broken off stays counted. Without Redis every attempt is denied.

    Args:
        cache: where the counts are kept.
        limit: attempts that may fail in one window.
        window_s: length of a window, from the first failed attempt.
    """

    def __init__(self, cache: Cache, limit: int, window_s: float) -> None:
        if limit < 1 or window_s <= 0:
            raise ValueError("a throttle needs a limit of at least 1 and a window")
        self._cache = cache
        self._limit = limit
        self._window_s = window_s

    async def check(self, key: str) -> Allow | Deny:
        """Asks before the password is looked at; counts the attempt.

        Args:
            key: who is guessed at or who guesses, such as a user name or an
                address; only its hash is stored.
        """
        try:
            return await self._cache.take(_slot(key), limit=self._limit, window_s=self._window_s)
        except StorageError as error:
            log.warning("login.throttle.unavailable", error=error.code)
            return Deny(
                reason="Logging in is not possible right now.", retry_after_s=UNAVAILABLE_RETRY_S
            )

    async def failed(self, key: str) -> int:
        """Leaves the attempt counted; how many more may fail in this window.

        Raises:
            StorageUnavailable: the counter cannot be read; the attempt stays counted.
        """
        return max(0, self._limit - await self._cache.taken(_slot(key)))

    async def not_made(self, key: str) -> None:
        """Takes back an attempt whose password nobody could look at.

        Raises:
            StorageUnavailable: the attempt stays counted.
        """
        await self._cache.give_back(_slot(key))

    async def succeeded(self, key: str) -> None:
        """Clears the count.

        Raises:
            StorageUnavailable: the attempt stays counted.
        """
        await self._cache.forget(_slot(key))


def _slot(key: str) -> str:
    return "login:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
