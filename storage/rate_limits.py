"""Rate limits, counted in Valkey or Redis by the `limits` library; the growing back-off is ours."""

import hashlib
from time import time
from typing import Final, Protocol

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter

from storage.cache import UNAVAILABLE_RETRY_S, Allow, Cache, Deny
from storage.errors import StorageError

log = structlog.get_logger()

PREFIX: Final = "rate"
STRIKES_KEPT_S: Final = 24 * 3600
"""How long it is remembered that somebody went over a limit that has back-off."""
_TOO_MANY: Final = "Too many attempts; wait before the next."
_UNCOUNTED: Final = "This is not possible right now."

# Blocks, longer each time, unless somebody did so a moment ago: of many attempts over the
# limit at once, one is a strike. KEYS: block, strikes. ARGV: how long strikes are kept in ms,
# then the waits in ms.
_STRIKE = """
local left = redis.call('pttl', KEYS[1])
if left > 0 then return left end
local strikes = redis.call('incr', KEYS[2])
redis.call('pexpire', KEYS[2], ARGV[1])
local wait = ARGV[math.min(strikes, #ARGV - 1) + 1]
redis.call('set', KEYS[1], '1', 'PX', wait)
return tonumber(wait)
"""


class Limit(Protocol):
    """So many in a window, as policies/rate_limits.py has them."""

    @property
    def name(self) -> str:
        """Of what is limited."""
        ...

    @property
    def amount(self) -> int:
        """How many in one window."""
        ...

    @property
    def window_s(self) -> int:
        """The window's length, in seconds."""
        ...

    @property
    def open_uncounted(self) -> bool:
        """Whether it goes on where nothing can be counted."""
        ...

    @property
    def back_off_s(self) -> tuple[int, ...]:
        """Waits for who goes over it again and again; the last one for ever."""
        ...


class RateLimits:
    """Counts attempts, each from the moment that it is asked about.

    Who is counted is kept as a digest only. Where nothing can be counted, a limit says
    itself whether the attempt goes on.

    Args:
        cache: where the counts are kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._storage = RedisStorage(
            "redis://",
            implementation="redispy",
            key_prefix=PREFIX,
            connection_pool=cache.client.connection_pool,  # type: ignore[arg-type]  # as it documents
        )
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._strike = cache.client.register_script(_STRIKE)

    async def hit(self, limit: Limit, who: str) -> Allow | Deny:
        """Take one of the places of a window.

        Args:
            limit: which.
            who: the address or the user that it is counted for.
        """
        try:
            async with self._cache.command("count an attempt"):
                return await self._hit(limit, _slot(limit, who))
        except StorageError as error:
            log.warning("rate_limit.uncounted", limit=limit.name, error=error.code)
            if limit.open_uncounted:
                return Allow(remaining=0)
            return Deny(reason=_UNCOUNTED, retry_after_s=UNAVAILABLE_RETRY_S)

    async def give_back(self, limit: Limit, who: str) -> None:
        """Give a place back: the attempt is not one that the limit is about.

        Raises:
            StorageUnavailable: it stays taken.
        """
        item, slot = _item(limit), _slot(limit, who)
        async with self._cache.command("give an attempt back"):
            if await self._storage.get(item.key_for(slot)) > 0:
                await self._storage.incr(item.key_for(slot), item.get_expiry(), amount=-1)

    async def _hit(self, limit: Limit, slot: str) -> Allow | Deny:
        block = f"{PREFIX}:block:{slot}"
        if limit.back_off_s:
            left_ms = await self._cache.client.pttl(block)
            if left_ms > 0:
                return Deny(reason=_TOO_MANY, retry_after_s=left_ms / 1000)
        item = _item(limit)
        # What FixedWindowRateLimiter.hit does; it keeps the count to itself.
        taken = await self._storage.incr(item.key_for(slot), item.get_expiry())
        if taken <= limit.amount:
            return Allow(remaining=limit.amount - taken)
        window = await self._limiter.get_window_stats(item, slot)
        wait_s = max(0.001, window.reset_time - time())
        if limit.back_off_s:
            waits_ms = [wait_s * 1000 for wait_s in limit.back_off_s]
            keys = [block, f"{PREFIX}:strikes:{slot}"]
            blocked_ms = await self._strike(keys=keys, args=[STRIKES_KEPT_S * 1000, *waits_ms])
            wait_s = max(wait_s, float(blocked_ms) / 1000)
        return Deny(reason=_TOO_MANY, retry_after_s=wait_s)


def _item(limit: Limit) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(limit.amount, limit.window_s, namespace=limit.name)


def _slot(limit: Limit, who: str) -> str:
    digest = hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{limit.name}:{digest}"
