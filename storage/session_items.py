"""Items of the kind "session" in Valkey or Redis, where they go away by themselves.

Two write here: the memory's keeper, which passes on what it read a moment ago, and whoever has just
seen a newer version take effect. The second leaves a mark, its place in the stream; behind a mark
nothing is kept that is older. So neither is a version read that its writer knows to be the last
but one, nor is the newest removed because it was faster.
"""

from datetime import datetime
from typing import Final

from storage.cache import Cache
from storage.memory_item import MemoryItem

PREFIX: Final = "session-item"
MARK_S: Final = 600
"""How long a mark stays where no keeper passes the version on."""
_LEAST_MS: Final = 1

_PUT = """
local mark = redis.call('hget', KEYS[1], 'mark')
if mark and tonumber(mark) > tonumber(ARGV[1]) then return end
redis.call('del', KEYS[1])
redis.call('hset', KEYS[1], 'place', ARGV[1], 'item', ARGV[2])
redis.call('pexpire', KEYS[1], ARGV[3])
"""
_SUPERSEDE = """
local known = redis.call('hmget', KEYS[1], 'place', 'mark')
if tonumber(known[1] or known[2] or '0') >= tonumber(ARGV[1]) then return end
redis.call('del', KEYS[1])
redis.call('hset', KEYS[1], 'mark', ARGV[1])
redis.call('expire', KEYS[1], ARGV[2])
"""


class SessionItems:
    """What the memory holds for a while only, without a question to Postgres.

    Every method may raise StorageUnavailable or StorageRefused. What is not found here may still
    be in Postgres.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._put = cache.client.register_script(_PUT)
        self._supersede = cache.client.register_script(_SUPERSEDE)

    async def put(self, item: MemoryItem, *, now: datetime) -> None:
        """Keep an item until it expires, unless it is known to be superseded.

        One without an end is not kept here, nor is what was there before it.
        """
        if item.expires_at is None:
            await self.drop(item.tenant, item.namespace, item.item)
            return
        left_ms = round((item.expires_at - now).total_seconds() * 1000)
        key = _key(item.tenant, item.namespace, item.item)
        async with self._cache.command("keep an item of a session"):
            await self._put(keys=[key], args=[item.place, item.to_json(), max(left_ms, _LEAST_MS)])

    async def supersede(self, tenant: str, namespace: str, item: str, *, place: int) -> None:
        """Have no version read that is older than the change at this place of the stream."""
        async with self._cache.command("supersede an item of a session"):
            await self._supersede(keys=[_key(tenant, namespace, item)], args=[place, MARK_S])

    async def drop(self, tenant: str, namespace: str, item: str) -> None:
        """Remove an item, if it is there."""
        await self._cache.forget(_key(tenant, namespace, item))

    async def get(self, tenant: str, namespace: str, item: str) -> MemoryItem | None:
        """The item, None if it is not kept here."""
        async with self._cache.command("read an item of a session"):
            text = await self._cache.client.hget(_key(tenant, namespace, item), "item")
        return None if text is None else MemoryItem.from_json(text)

    async def clear(self) -> int:
        """Remove all of them; how many there were."""
        async with self._cache.command("look for items of sessions"):
            found = self._cache.client.scan_iter(match=f"{PREFIX}:*", count=1_000)
            keys = [key async for key in found]
        if keys:
            async with self._cache.command("remove items of sessions"):
                await self._cache.client.unlink(*keys)
        return len(keys)


def _key(tenant: str, namespace: str, item: str) -> str:
    return f"{PREFIX}:{tenant}:{namespace}:{item}"
