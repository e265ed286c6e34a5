"""Which items the vector index and the cache have still to be told of.

A change is noted in the transaction that makes it, and struck out once both know what the item
is by then. A crash in between tells them again, which does no harm.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.memory_item import MemoryItem
from storage.postgres import Pool, translated

_PENDING = """
select c.tenant, c.namespace, c.item, c.change, m.version, m.kind, m.content, m.metadata,
    m.expires_at, m.written_at, m.place, m.event, m.author, m.run, m.step, m.subject, m.reason,
    '[]' as sources
from memory_change c left join memory m
    on m.visible and m.content is not null and (m.expires_at is null or m.expires_at > $2)
    and (m.tenant, m.namespace, m.item) = (c.tenant, c.namespace, c.item)
order by c.change limit $1
"""
_DONE = """
delete from memory_change c
using unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
    as t (tenant, namespace, item, change)
where (c.tenant, c.namespace, c.item, c.change) = (t.tenant, t.namespace, t.item, t.change)
"""
_ALL = """
insert into memory_change (tenant, namespace, item)
select tenant, namespace, item from memory where visible order by tenant, namespace, item
on conflict (tenant, namespace, item) do update set change = default
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingItem:
    """An item that was changed, and what it is now; None if it is not there any more."""

    tenant: str
    namespace: str
    item: str
    change: int
    now: MemoryItem | None


class MemoryOutbox:
    """What is to be passed on. May raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def pending(self, limit: int, *, now: datetime) -> list[PendingItem]:
        """The oldest changes that were not passed on."""
        with translated("read what changed in the memory"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_PENDING, limit, now)
        found = []
        for row in rows:
            fields = {name: value for name, value in row.items() if name != "change"}
            there = None if row["version"] is None else MemoryItem.from_row(fields)
            found.append(
                PendingItem(
                    tenant=row["tenant"],
                    namespace=row["namespace"],
                    item=row["item"],
                    change=row["change"],
                    now=there,
                )
            )
        return found

    async def done(self, passed_on: Sequence[PendingItem]) -> None:
        """Strike these out, except what changed again meanwhile."""
        with translated("note what was passed on"):
            async with asyncio.timeout(self._deadline_s):
                await self._pool.execute(
                    _DONE,
                    [each.tenant for each in passed_on],
                    [each.namespace for each in passed_on],
                    [each.item for each in passed_on],
                    [each.change for each in passed_on],
                )

    async def all_again(self) -> int:
        """Have every item passed on again; how many there are."""
        with translated("have the memory indexed again"):
            async with asyncio.timeout(self._deadline_s):
                status = await self._pool.execute(_ALL)
        return int(status.rpartition(" ")[2])

    async def backlog(self) -> int:
        """How many items are to be passed on."""
        with translated("count what is to be passed on"):
            async with asyncio.timeout(self._deadline_s):
                count: int = await self._pool.fetchval("select count(*) from memory_change")
        return count

    async def is_pending(self, tenant: str, namespace: str, item: str) -> bool:
        """Whether an item is still to be passed on."""
        with translated("look whether an item was passed on"):
            async with asyncio.timeout(self._deadline_s):
                found: bool = await self._pool.fetchval(
                    "select exists (select from memory_change"
                    " where tenant = $1 and namespace = $2 and item = $3)",
                    *(tenant, namespace, item),
                )
        return found
