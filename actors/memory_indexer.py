"""Passing changes of the memory on to the vector index and to the items of sessions."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from actors.embedder import Embedder
from bus.errors import SwarmError
from storage.memory_outbox import MemoryOutbox, PendingItem
from storage.session_items import SessionItems
from storage.vector_index import Point, VectorIndex, point_id

log = structlog.get_logger()

BATCH: Final = 64
EMBED_S: Final = 60.0
EMBEDDED_CHARS: Final = 4_000
"""Of an item; an encoder reads fewer tokens than that, and what it is about stands first."""

State = tuple[int, int | None]
"""A change, and the version that there was when it was passed on; None where there was none."""


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryIndexer:
    """What keeps index and sessions abreast of the memory.

    Attributes:
        outbox: what is to be passed on.
        index: the vectors of the items.
        sessions: the items that go away by themselves.
        embedder: makes vectors.
        indexed: what the index knows of the changes that the sessions still have to be told of.
    """

    outbox: MemoryOutbox
    index: VectorIndex
    sessions: SessionItems
    embedder: Embedder
    clock: Callable[[], datetime] = utc_now
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    indexed: set[State] = field(default_factory=set)

    async def pass_on(self) -> int:
        """Pass on the oldest changes, and how many those were; 0 when there are none.

        Raises:
            StorageError, serve.errors.ModelError: not now; they stay to be passed on.
        """
        async with self.turn:
            if not self.index.is_open:
                await self._open()
            now = self.clock()
            pending = await self.outbox.pending(BATCH, now=now)
            if pending:
                await self._both(pending, now)
                await self.outbox.done(pending)
            return len(pending)

    async def again(self) -> int:
        """Make the index and the sessions anew, from the memory; of how many items.

        They are noted before anything is removed: what breaks off in between is passed on.

        Raises:
            StorageError: one of them does not answer; do it again.
        """
        async with self.turn:
            count = await self.outbox.all_again()
            self.indexed.clear()
            await self.index.clear()
            await self.sessions.clear()
            return count

    async def _open(self) -> None:
        """Open the index; where there is none yet, have everything passed on again first."""
        if not await self.index.exists():
            count = await self.outbox.all_again()
            log.info("memory.index_made_anew", items=count)
        await self.index.open()

    async def _both(self, pending: Sequence[PendingItem], now: datetime) -> None:
        """Tell the sessions and the index, each to the end, though the other one is away.

        What would go on behind a pass that failed could put back what the next one removes.
        """
        told = await asyncio.gather(
            self._sessions(pending, now), self._vectors(pending), return_exceptions=True
        )
        for outcome in told:
            if outcome is not None:
                raise outcome

    async def _sessions(self, pending: Sequence[PendingItem], now: datetime) -> None:
        for each in pending:
            if each.now is not None and each.now.kind == "session":
                await self.sessions.put(each.now, now=now)
            else:
                await self.sessions.drop(each.tenant, each.namespace, each.item)

    async def _vectors(self, pending: Sequence[PendingItem]) -> None:
        """Of what is searched; what lives for a while only is read by its name."""
        new = [each for each in pending if _state(each) not in self.indexed]
        self.indexed.clear()
        there = [each for each in new if each.now is not None and each.now.kind != "session"]
        kept = {id(each) for each in there}
        gone = [each for each in new if id(each) not in kept]
        await self.index.drop([point_id(e.tenant, e.namespace, e.item) for e in gone])
        texts = [each.now.content[:EMBEDDED_CHARS] for each in there if each.now is not None]
        vectors = await self._embedded(texts)
        await self.index.put(
            [
                Point(
                    tenant=each.tenant,
                    namespace=each.namespace,
                    item=each.item,
                    version=each.now.version,
                    vector=vector,
                )
                for each, vector in zip(there, vectors, strict=True)
                if each.now is not None and vector is not None
            ]
        )
        self.indexed.update(_state(each) for each in pending)

    async def _embedded(self, texts: Sequence[str]) -> list[tuple[float, ...] | None]:
        """A vector for each text; None for one that the model refuses by itself."""
        if not texts:
            return []
        try:
            return list(await self.embedder.embed(texts, deadline_s=EMBED_S))
        except SwarmError as error:
            if error.retryable:
                raise
            if len(texts) == 1:
                log.warning("memory.not_embedded", reason=str(error))
                return [None]
        return [vector for text in texts for vector in await self._embedded([text])]


def _state(pending: PendingItem) -> State:
    return (pending.change, None if pending.now is None else pending.now.version)
