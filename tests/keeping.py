"""A memory in the test's own event loop: a keeper over real servers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pydantic import JsonValue

from actors.memory_indexer import MemoryIndexer
from actors.memory_keeper import MemoryKeeper, MemoryStores
from actors.memory_question import Findings, Question, SignedQuestion, signed
from actors.memory_search import MemorySearch
from bus.event import Draft, StoredEvent
from bus.log import EventLog
from bus.memory_payloads import MemoryDeleted, MemoryWritten
from bus.payload import Payload
from bus.subjects import MEMORY_RUN
from serve.encoder import HashedWords
from serve.errors import ModelUnavailable
from storage.audit_growth import audit_growth
from storage.cache import Cache
from storage.memory import MemoryReader
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import Outcome
from storage.memory_log import MemoryLog
from storage.memory_outbox import MemoryOutbox
from storage.memory_projection import MemoryProjection
from storage.postgres import Pool
from storage.run_owners import RunOwnerReader
from storage.session_items import SessionItems
from storage.vector_index import VectorIndex
from storage.vectors import Vectors
from tests.broker import Broker
from tests.swarming import in_background

DIMENSIONS = 64


@dataclass
class WordEmbedder:
    """The stand-in for an encoder, without Serve; may be away."""

    encoder: HashedWords = field(default_factory=lambda: HashedWords(DIMENSIONS))
    is_away: bool = False

    async def embed(
        self,
        texts: Sequence[str],
        *,
        deadline_s: float,  # noqa: ARG002 - the port has it
    ) -> list[tuple[float, ...]]:
        if self.is_away:
            raise ModelUnavailable("the encoder is away")
        return [tuple(vector) for vector, _ in self.encoder.encode(texts)]


@dataclass
class Keeping:
    """A keeper that works, and what it works with."""

    keeper: MemoryKeeper
    stores: MemoryStores
    index: VectorIndex
    sessions: SessionItems
    outbox: MemoryOutbox
    embedder: WordEmbedder

    async def written(self, log: EventLog, draft: Draft) -> tuple[StoredEvent, Outcome]:
        """Store an event, and what became of it."""
        stored = await log.append(draft)
        outcome = await self.keeper.settled(stored.event.id, stored.stream_sequence)
        return stored, outcome

    async def ask(
        self,
        log: EventLog,
        text: str,
        *namespaces: str,
        run: str = MEMORY_RUN,
        filters: MemoryFilters = UNFILTERED,
    ) -> Findings:
        asked = question(log, text, *namespaces, run=run, filters=filters)
        return await self.keeper.answer(asked)


@dataclass(frozen=True)
class NearMemory:
    """The memory without Ray; implements MemoryService."""

    keeper: MemoryKeeper

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        async with asyncio.timeout(deadline_s):
            return await self.keeper.answer(question)

    async def settled(self, event: str, place: int, *, deadline_s: float) -> Outcome:
        return await self.keeper.settled(event, place, deadline_s=deadline_s)


@asynccontextmanager
async def keeping(
    broker: Broker,
    pool: Pool,
    dsn: str,
    folder: Path,
    valkey_url: str,
    *,
    embedder: WordEmbedder | None = None,
    dimensions: int = DIMENSIONS,
) -> AsyncIterator[Keeping]:
    embedder = embedder or WordEmbedder()
    async with (
        broker.joined("memory", f"memory-{uuid4().hex[:8]}") as log,
        Cache.open(valkey_url) as cache,
        Vectors.open_path(folder) as vectors,
        audit_growth(dsn) as grew,
    ):
        index = VectorIndex(vectors, "memory", dimensions)
        outbox, sessions = MemoryOutbox(pool), SessionItems(cache)
        indexer = MemoryIndexer(outbox=outbox, index=index, sessions=sessions, embedder=embedder)
        reader = MemoryReader(pool)
        stores = MemoryStores(
            log=MemoryLog(pool),
            projection=MemoryProjection(pool),
            reader=reader,
            owners=RunOwnerReader(pool),
            indexer=indexer,
            search=MemorySearch(reader=reader, index=index, embedder=embedder),
        )
        keeper = MemoryKeeper(log, stores, broker.policy)
        async with in_background(keeper.run(grew)):
            yield Keeping(
                keeper=keeper,
                stores=stores,
                index=index,
                sessions=sessions,
                outbox=outbox,
                embedder=embedder,
            )


def question(
    log: EventLog,
    text: str,
    *namespaces: str,
    run: str = MEMORY_RUN,
    item: str | None = None,
    filters: MemoryFilters = UNFILTERED,
    asked_at: datetime | None = None,
) -> SignedQuestion:
    asked = Question(
        text=text,
        namespaces=namespaces or ("shared",),
        run=run,
        item=item,
        filters=filters,
        asked_at=asked_at or datetime.now(UTC),
    )
    return signed(asked, log.sender.key)


def writing(
    item: str,
    content: str,
    *,
    base: int | None = None,
    namespace: str = "shared/notes",
    user: str = "ada",
    run: str = MEMORY_RUN,
    ttl_s: int | None = None,
    metadata: dict[str, JsonValue] | None = None,
) -> Draft:
    return drafted(
        MemoryWritten(
            namespace=namespace,
            item=item,
            kind="semantic" if ttl_s is None else "session",
            base=base,
            content=content,
            metadata=metadata or {},
            ttl_s=ttl_s,
        ),
        user,
        run,
    )


def deleting(item: str, *, namespace: str = "shared/notes", user: str = "ada") -> Draft:
    return drafted(MemoryDeleted(namespace=namespace, item=item), user)


def drafted(payload: Payload, user: str | None, run: str = MEMORY_RUN) -> Draft:
    return Draft(run=run, payload=payload, id=uuid4().hex, on_behalf_of=user)
