"""Items of the kind "session" in Valkey or Redis, where they go away by themselves."""

from datetime import datetime
from typing import Final

from storage.cache import Cache
from storage.memory_item import MemoryItem

PREFIX: Final = "memory"
_LEAST_MS: Final = 1


class SessionItems:
    """What the memory holds for a while only, without a question to Postgres.

    Every method may raise StorageUnavailable or StorageRefused. What is not found here may still
    be in Postgres.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def put(self, item: MemoryItem, *, now: datetime) -> None:
        """Keep an item until it expires; one without an end is not kept here."""
        if item.expires_at is None:
            return
        left_ms = round((item.expires_at - now).total_seconds() * 1000)
        key = _key(item.tenant, item.namespace, item.item)
        async with self._cache.command("keep an item of a session"):
            await self._cache.client.set(key, item.to_json(), px=max(left_ms, _LEAST_MS))

    async def drop(self, tenant: str, namespace: str, item: str) -> None:
        """Remove an item, if it is there."""
        await self._cache.forget(_key(tenant, namespace, item))

    async def get(self, tenant: str, namespace: str, item: str) -> MemoryItem | None:
        """The item, None if it is not kept here."""
        async with self._cache.command("read an item of a session"):
            text = await self._cache.client.get(_key(tenant, namespace, item))
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
