"""The index of a folder, which this process searches by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.errors import StorageUnavailable
from storage.vector_index import Point, VectorIndex
from storage.vectors import Vectors
from tests.integration.storage.remembering import TENANT, scope

DIMENSIONS = 4
EAST = (1.0, 0.0, 0.0, 0.0)


class Paused(VectorIndex):
    """Stops after the first point that is read, until it is let go on."""

    def __init__(self, vectors: Vectors) -> None:
        super().__init__(vectors, "memory", DIMENSIONS)
        self.reads = asyncio.Event()
        self.go_on = asyncio.Event()

    async def points(self) -> AsyncIterator[Point]:
        async for point in super().points():
            yield point
            self.reads.set()
            await self.go_on.wait()


def point(item: str) -> Point:
    return Point(tenant=TENANT, namespace="shared/notes", item=item, version=1, vector=EAST)


async def found(index: VectorIndex) -> set[str]:
    return {item for _, item in await index.nearest(EAST, scope(), least=0.5, limit=10)}


@pytest.fixture
async def vectors(vector_path: Path) -> AsyncIterator[Vectors]:
    async with Vectors.open_path(vector_path) as opened:
        yield opened


async def test_an_index_that_is_being_read_does_not_answer_in_part(vectors: Vectors) -> None:
    before = VectorIndex(vectors, "memory", DIMENSIONS)
    await before.open()
    await before.put([point("a"), point("b")])
    index = Paused(vectors)
    with pytest.raises(StorageUnavailable, match="not open"):
        await found(index)
    opening = asyncio.create_task(index.open())
    await index.reads.wait()
    with pytest.raises(StorageUnavailable, match="not open"):
        await found(index)
    index.go_on.set()
    await opening
    assert await found(index) == {"a", "b"}


async def test_an_index_that_is_opened_again_answers_with_what_it_had(vectors: Vectors) -> None:
    index = Paused(vectors)
    await index.open()
    await index.put([point("a"), point("b")])
    opening = asyncio.create_task(index.open())
    await index.reads.wait()
    assert await found(index) == {"a", "b"}
    index.go_on.set()
    await opening
    assert await found(index) == {"a", "b"}


async def test_an_index_that_is_cleared_holds_nothing_and_takes_more(vectors: Vectors) -> None:
    index = VectorIndex(vectors, "memory", DIMENSIONS)
    await index.open()
    await index.put([point("a")])
    await index.clear()
    assert await found(index) == set()
    await index.put([point("b")])
    assert await found(index) == {"b"}
