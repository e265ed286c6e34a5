"""The Ray actor that keeps the memory: opens what it is kept in, and joins it to the bus."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import ray

from actors.embedder import Embedder
from actors.member import joined
from actors.memory_indexer import MemoryIndexer
from actors.memory_keeper import MemoryKeeper, MemoryStores
from actors.memory_question import Findings, SignedQuestion
from actors.memory_search import MemorySearch
from actors.shell import MemberActor, Membership, Ready, issue, unlock
from storage.audit_growth import audit_growth
from storage.cache import Cache
from storage.memory import MemoryReader
from storage.memory_item import Outcome
from storage.memory_log import MemoryLog
from storage.memory_outbox import MemoryOutbox
from storage.memory_projection import MemoryProjection
from storage.postgres import Pool, open_pool
from storage.run_owners import RunOwnerReader
from storage.session_items import SessionItems
from storage.vector_index import VectorIndex
from storage.vectors import Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDesk:
    """Where the memory is kept.

    Attributes:
        database_url: ``postgresql://...``, migrated.
        redis_url: ``redis://...``
        qdrant: ``http://...`` of a server, or a folder of its own.
        embedder: makes vectors; must pickle.
        space: which vectors compare: the name of the model that makes them.
        dimensions: numbers of a vector.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    qdrant: str = field(repr=False)
    embedder: Embedder
    space: str
    dimensions: int

    @property
    def collection(self) -> str:
        """The collection of the vectors of this model."""
        return f"memory-{self.space}-{self.dimensions}"


class MemoryActor(MemberActor):
    """Keeps the memory, and answers for it."""

    def __init__(self, membership: Membership, desk: MemoryDesk) -> None:
        self._desk = desk
        self._keeper: asyncio.Future[MemoryKeeper] = asyncio.get_running_loop().create_future()
        super().__init__(membership)

    async def body(self, ready: Ready) -> None:
        """Keep the memory until cancelled."""
        desk, membership = self._desk, self.membership
        async with (
            open_pool(desk.database_url) as pool,
            Cache.open(desk.redis_url) as cache,
            _vectors(desk.qdrant) as vectors,
            audit_growth(desk.database_url) as grew,
            joined(membership.domain, membership.enrolment, issue, unlock=unlock) as log,
        ):
            stores = _stores(desk, pool, cache, vectors)
            keeper = MemoryKeeper(log, stores, membership.domain.policy())
            self._keeper.set_result(keeper)
            ready()
            await keeper.run(grew)

    @ray.method
    async def answer(self, question: SignedQuestion) -> Findings:
        """Answer a question of a member; see `MemoryKeeper.answer`."""
        return await (await self._keeper).answer(question)

    @ray.method
    async def settled(self, event: str, place: int, deadline_s: float) -> Outcome:
        """What became of a write; see `MemoryKeeper.settled`."""
        return await (await self._keeper).settled(event, place, deadline_s=deadline_s)

    @ray.method
    async def reindex(self) -> int:
        """Make the vector index and the sessions anew from Postgres; of how many items."""
        return await (await self._keeper).reindex()

    @ray.method
    async def rebuild(self) -> None:
        """Make all of it anew from the audit log."""
        await (await self._keeper).rebuild()

    @ray.method
    async def is_following(self) -> bool:
        """Whether what is written takes effect."""
        return (await self._keeper).is_following

    @ray.method
    async def is_indexing(self) -> bool:
        """Whether the vector index and the sessions follow the memory."""
        return (await self._keeper).is_indexing


def _vectors(qdrant: str) -> AbstractAsyncContextManager[Vectors]:
    if qdrant.startswith(("http://", "https://")):
        return Vectors.open_url(qdrant)
    return Vectors.open_path(Path(qdrant))


def _stores(desk: MemoryDesk, pool: Pool, cache: Cache, vectors: Vectors) -> MemoryStores:
    index = VectorIndex(vectors, desk.collection, desk.dimensions)
    reader = MemoryReader(pool)
    indexer = MemoryIndexer(
        outbox=MemoryOutbox(pool),
        index=index,
        sessions=SessionItems(cache),
        embedder=desk.embedder,
    )
    return MemoryStores(
        log=MemoryLog(pool),
        projection=MemoryProjection(pool),
        reader=reader,
        owners=RunOwnerReader(pool),
        indexer=indexer,
        search=MemorySearch(reader=reader, index=index, embedder=desk.embedder),
    )
