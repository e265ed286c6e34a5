"""Reading the memory: items by name, lists, and the keyword half of a search."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from storage.memory_change import MemoryKind, Version
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Outcome, Scope
from storage.postgres import Pool, translated

PAGE_ITEMS: Final = 500
MOST_RANKED: Final = 2_000
"""Matches that are ranked, the newest of them: a word that every text has finds all of them."""

_COLUMNS = (
    "tenant, namespace, item, version, kind, content, metadata, expires_at, written_at, place,"
    " event, author, run, step, subject, reason"
)
_SOURCES = """
coalesce((select json_agg(json_build_array(source_namespace, source_item, source_version)
    order by source_namespace, source_item, source_version) from memory_source s
 where (s.tenant, s.namespace, s.item, s.version) = (m.tenant, m.namespace, m.item, m.version)),
 '[]') as sources
"""
_IS_THERE = "visible and content is not null and (expires_at is null or expires_at > $2)"
_WITHIN = "(namespace = any($3::text[]) or namespace ^@ any($4::text[]))"
_READ = f"""
select {_COLUMNS}, {_SOURCES} from memory m
where tenant = $1 and {_IS_THERE} and namespace = $3 and item = $4
"""  # noqa: S608 # nosec B608
_LIST = f"""
select {_COLUMNS}, '[]' as sources from memory m
where tenant = $1 and {_IS_THERE} and {_WITHIN}
    and ($5::text[] is null or kind = any($5)) and (namespace, item) > ($6, $7)
order by namespace, item limit $8
"""  # noqa: S608 # nosec B608


def _filtered(at: int) -> str:
    """The condition that filters make, whose values are five parameters from this one on."""
    return f"""
    (${at}::text is null or author = ${at}) and (${at + 1}::text is null or run = ${at + 1})
    and (${at + 2}::timestamptz is null or written_at >= ${at + 2})
    and (${at + 3}::timestamptz is null or written_at < ${at + 3})
    and (${at + 4}::jsonb is null or metadata @> ${at + 4})
    """


_NAMED = f"""
from memory m join unnest($3::text[], $4::text[]) as t (namespace, item) using (namespace, item)
where tenant = $1 and {_IS_THERE} and {_filtered(5)}
"""
_BY_NAME = f"select {_COLUMNS}, '[]' as sources {_NAMED}"  # nosec B608
_PASSING = f"""
select namespace, item {_NAMED} and ($10::text[] is null or kind = any($10))
"""  # nosec B608
# The words are joined by "or": a question has more words than a text that answers it.
_SEARCH = f"""
with asked as (
    select replace(plainto_tsquery('english', $5)::text, '&', '|')::tsquery as words
), found as (
    select namespace, item, search, place, words from memory, asked
    where tenant = $1 and {_IS_THERE} and {_WITHIN} and kind = any($6::text[]) and search @@ words
        and {_filtered(9)}
    order by place desc limit $7
)
select namespace, item from found
order by ts_rank_cd(search, words, 1) desc, place desc limit $8
"""  # noqa: S608 # nosec B608
# Which index serves a search best depends on how many texts have its words: at 10 thousand items
# a plan made for any words took three times as long as one made for these.
_PLAN_ANEW = "set local plan_cache_mode = force_custom_plan"
_WRITTEN_BY = f"""
select {_COLUMNS}, {_SOURCES} from memory m where event = $1 and content is not null
limit 1
"""  # noqa: S608 # nosec B608
_VERSIONS = f"""
select {_COLUMNS}, '[]' as sources from memory m
join unnest($2::text[], $3::text[], $4::bigint[]) as t (namespace, item, version)
    using (namespace, item, version)
where tenant = $1 and content is not null
"""  # noqa: S608 # nosec B608
_HIDDEN_BY = """
select count(distinct (tenant, namespace, item)) from memory where hidden_by = $1
"""
_OUTCOME = """
select (select stream_sequence from memory_place) as place,
       exists (select from memory where event = $1) as is_applied,
       r.code, r.version
from (select) as one left join memory_refusal r on r.event = $1
"""


class MemoryReader:
    """Reads the memory; any number may work beside the projection.

    Every method may raise StorageUnavailable or StorageRefused.

    Args:
        pool: the database, migrated.
        deadline_s: for each query, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def read(
        self, tenant: str, namespace: str, item: str, *, now: datetime
    ) -> MemoryItem | None:
        """The item as it is now, None if it is not there."""
        with translated("read an item of the memory"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_READ, tenant, now, namespace, item)
        return None if row is None else MemoryItem.from_row(dict(row))

    async def page(
        self, scope: Scope, *, now: datetime, after: tuple[str, str] = ("", ""), limit: int
    ) -> list[MemoryItem]:
        """Items in the order of their names, without their sources.

        Args:
            scope: where to look.
            now: what has expired by then is not there.
            after: namespace and item before the first.
            limit: most to return; ask again after the last of them.
        """
        kinds = None if scope.kinds is None else list(scope.kinds)
        with translated("list the memory"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    _LIST,
                    *(scope.tenant, now, list(scope.namespaces), scope.below, kinds),
                    *(*after, limit),
                )
        return [MemoryItem.from_row(dict(row)) for row in rows]

    async def all(self, scope: Scope, *, now: datetime) -> AsyncIterator[MemoryItem]:
        """Every item there, page by page."""
        after = ("", "")
        while items := await self.page(scope, now=now, after=after, limit=PAGE_ITEMS):
            for item in items:
                yield item
            after = (items[-1].namespace, items[-1].item)

    async def named(
        self,
        tenant: str,
        names: Sequence[tuple[str, str]],
        *,
        now: datetime,
        filters: MemoryFilters = UNFILTERED,
    ) -> dict[tuple[str, str], MemoryItem]:
        """Those of the items, given by namespace and item, that are there and as they must be."""
        rows = await self._named(_BY_NAME, tenant, names, now, filters)
        return {(row["namespace"], row["item"]): MemoryItem.from_row(dict(row)) for row in rows}

    async def passing(
        self,
        tenant: str,
        names: Sequence[tuple[str, str]],
        *,
        now: datetime,
        filters: MemoryFilters,
        kinds: Sequence[MemoryKind] | None = None,
    ) -> list[tuple[str, str]]:
        """The names of those, in their order; for many, whose texts nobody wants to read.

        Args:
            tenant: whose memory.
            names: by namespace and item.
            now: what has expired by then is not there.
            filters: what they must be like.
            kinds: of which kinds; None for any.
        """
        wanted = None if kinds is None else list(kinds)
        rows = await self._named(_PASSING, tenant, names, now, filters, wanted)
        there = {(row["namespace"], row["item"]) for row in rows}
        return [name for name in names if name in there]

    async def search(
        self,
        scope: Scope,
        text: str,
        *,
        now: datetime,
        limit: int,
        filters: MemoryFilters = UNFILTERED,
    ) -> list[tuple[str, str]]:
        """Items that share words with a text, the best match first, by namespace and item."""
        kinds = list(scope.kinds or ("episodic", "semantic"))
        with translated("search the memory by words"):
            async with (
                asyncio.timeout(self._deadline_s),
                self._pool.acquire() as connection,
                connection.transaction(readonly=True),
            ):
                await connection.execute(_PLAN_ANEW)
                rows = await connection.fetch(
                    _SEARCH,
                    *(scope.tenant, now, list(scope.namespaces), scope.below),
                    *(text, kinds, MOST_RANKED, limit),
                    *_values(filters),
                )
        return [(row["namespace"], row["item"]) for row in rows]

    async def outcome(self, event: str) -> Outcome:
        """What became of the write that an event asked for."""
        with translated("read what became of a write"):
            async with asyncio.timeout(self._deadline_s):
                [row] = await self._pool.fetch(_OUTCOME, event)
        return Outcome(
            place=row["place"],
            is_applied=row["is_applied"],
            refusal=row["code"],
            version=row["version"] or 0,
        )

    async def written_by(self, event: str) -> MemoryItem | None:
        """The version that an event made, whether it is the last one or not; None for none."""
        with translated("read what an event wrote"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_WRITTEN_BY, event)
        return None if row is None else MemoryItem.from_row(dict(row))

    async def versions(self, tenant: str, versions: Sequence[Version]) -> list[MemoryItem]:
        """Those of the versions that were kept, in that order, visible or not."""
        columns = (
            [version.namespace for version in versions],
            [version.item for version in versions],
            [version.version for version in versions],
        )
        with translated("read versions of the memory"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(_VERSIONS, tenant, *columns)
        found = {(row["namespace"], row["item"], row["version"]): row for row in rows}
        names = [(version.namespace, version.item, version.version) for version in versions]
        return [MemoryItem.from_row(dict(found[name])) for name in names if name in found]

    async def hidden_by(self, quarantine: str) -> int:
        """How many items have a version that a quarantine, by the id of its event, hides."""
        with translated("count what is hidden"):
            async with asyncio.timeout(self._deadline_s):
                count: int = await self._pool.fetchval(_HIDDEN_BY, quarantine)
        return count

    async def _named(
        self,
        query: str,
        tenant: str,
        names: Sequence[tuple[str, str]],
        now: datetime,
        filters: MemoryFilters,
        *more: object,
    ) -> list[asyncpg.Record]:
        with translated("read items of the memory"):
            async with asyncio.timeout(self._deadline_s):
                rows: list[asyncpg.Record] = await self._pool.fetch(
                    query,
                    *(tenant, now),
                    *([namespace for namespace, _ in names], [item for _, item in names]),
                    *(*_values(filters), *more),
                )
        return rows


def _values(filters: MemoryFilters) -> tuple[object, ...]:
    """The parameters of `_filtered`."""
    metadata = json.dumps(filters.metadata) if filters.metadata else None
    return (filters.author, filters.run, filters.since, filters.before, metadata)
