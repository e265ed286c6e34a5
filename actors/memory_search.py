"""Searching the memory: by meaning and by words, fused; by words alone while the index is away."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from actors.embedder import Embedder
from actors.memory_question import Findings, Found
from bus.errors import SwarmError
from storage.fusion import fuse
from storage.memory import MemoryReader
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Scope
from storage.vector_index import VectorIndex

log = structlog.get_logger()

CANDIDATES: Final = 50
"""Of each ranking."""
LOOKED_THROUGH: Final = 5_000
"""Of the index, where filters or kinds leave some of them: it knows nothing of either."""
DENSE_S: Final = 2.0
"""How long a search waits for what finds by meaning."""
LEAST_COSINE: Final = 0.25
"""Of an item and what is looked for. Below it texts are about other things, by all-MiniLM-L6-v2."""
BY_MEANING: Final = 1.0
BY_WORDS: Final = 1.0
BY_AGE: Final = 0.2
"""How much each ranking counts. Age decides between what is otherwise about equal."""

Name = tuple[str, str]
MaySee = Callable[[MemoryItem], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySearch:
    """Both halves of a search, and what puts them together.

    Attributes:
        reader: the memory in Postgres.
        index: the vectors of its items.
        embedder: makes one of what is looked for.
    """

    reader: MemoryReader
    index: VectorIndex
    embedder: Embedder
    dense_s: float = field(default=DENSE_S)

    async def find(
        self,
        text: str,
        scope: Scope,
        *,
        now: datetime,
        limit: int,
        may_see: MaySee,
        filters: MemoryFilters = UNFILTERED,
    ) -> Findings:
        """The items that fit a text best.

        Args:
            text: what they are to be about.
            scope: where to look.
            now: what has expired by then is not found.
            limit: most items.
            may_see: which items the answer may hold.
            filters: what they must be like.

        Raises:
            StorageUnavailable: Postgres does not answer.
        """
        is_narrowed = filters.is_set or scope.kinds is not None
        by_words, by_meaning = await asyncio.gather(
            self.reader.search(scope, text, now=now, limit=CANDIDATES, filters=filters),
            self._by_meaning(text, scope, LOOKED_THROUGH if is_narrowed else CANDIDATES),
        )
        if by_meaning and is_narrowed:
            passing = await self.reader.passing(
                scope.tenant, by_meaning, now=now, filters=filters, kinds=scope.kinds
            )
            by_meaning = passing[:CANDIDATES]
        rankings = [(by_words, BY_WORDS), (by_meaning or [], BY_MEANING)]
        names = [name for name, _ in fuse(rankings)]
        there = await self.reader.named(scope.tenant, names, now=now, filters=filters)
        seen = {
            name: item
            for name, item in there.items()
            if may_see(item) and (scope.kinds is None or item.kind in scope.kinds)
        }
        by_age = sorted(seen, key=lambda name: -seen[name].place)
        best = fuse([*((_those(ranking, seen), w) for ranking, w in rankings), (by_age, BY_AGE)])
        return Findings(
            found=tuple(Found(item=seen[name], score=score) for name, score in best[:limit]),
            recall="keyword" if by_meaning is None else "hybrid",
        )

    async def _by_meaning(self, text: str, scope: Scope, limit: int) -> list[Name] | None:
        """None where nobody can say."""
        try:
            async with asyncio.timeout(self.dense_s):
                [vector] = await self.embedder.embed([text], deadline_s=self.dense_s)
                return await self.index.nearest(vector, scope, least=LEAST_COSINE, limit=limit)
        except (SwarmError, TimeoutError) as error:
            log.warning("memory.searches_by_words_only", reason=str(error) or type(error).__name__)
            return None


def _those(ranking: Sequence[Name], seen: dict[Name, MemoryItem]) -> list[Name]:
    return [name for name in ranking if name in seen]
