# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""A search for what few items are, among many that fit better."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.memory_search import CANDIDATES, MemorySearch
from storage.memory_change import MemoryKind
from storage.postgres import Pool
from storage.vector_index import Point, VectorIndex
from storage.vectors import Vectors
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
)
from tests.integration.storage.remembering import BEGAN, TENANT, Remembering, scope
from tests.keeping import DIMENSIONS, WordEmbedder

ASKED = "token bucket"


@pytest.fixture
async def search(pool: Pool, tmp_path: Path) -> AsyncIterator[MemorySearch]:
    """Of twice as many facts as are looked at in a ranking, and of what happened once."""
    memory, embedder = Remembering(pool), WordEmbedder()
    facts = [memory.written(f"i{n}", "A fact.") for n in range(2 * CANDIDATES)]
    once = memory.written("once", "What happened.", kind="episodic")
    await memory.apply(*facts, once)
    nearest, near = await embedder.embed([ASKED, f"{ASKED} rates"], deadline_s=10)
    async with Vectors.open_path(tmp_path / "vectors") as vectors:
        index = VectorIndex(vectors, "memory", DIMENSIONS)
        await index.open()
        made = [(each.item, nearest) for each in facts] + [(once.item, near)]
        await index.put(
            [
                Point(tenant=TENANT, namespace="shared/notes", item=item, version=1, vector=vector)
                for item, vector in made
            ]
        )
        yield MemorySearch(reader=memory.reader, index=index, embedder=embedder, dense_s=30)


@pytest.mark.parametrize(
    ("kinds", "found"),
    [(("episodic",), {"episodic"}), (("semantic",), {"semantic"}), (("session",), set())],
)
async def test_a_kind_is_found_by_meaning_behind_many_of_another(
    search: MemorySearch, kinds: tuple[MemoryKind, ...], found: set[MemoryKind]
) -> None:
    findings = await search.find(
        ASKED,
        replace(scope(), kinds=kinds),
        now=BEGAN,
        limit=10,
        may_see=lambda _: True,
    )
    assert findings.recall == "hybrid"
    assert {each.item.kind for each in findings.found} == found
